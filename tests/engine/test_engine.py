"""Runs that meet in calls of the network: what a picture is does not depend on who else is there."""

from __future__ import annotations

import functools
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from narrow import narrow
from narrow_checkpoints import randomise, write_vocabulary

from darkroom.engine.engine import Cancelled, Engine
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.models import vocabulary
from darkroom.systems.build import LatentDiffusion, build
from darkroom.types import Guidance, HighResolution, Region, Request, Step

PHOTO = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
MASK = np.zeros((64, 64), np.uint8)
MASK[16:40, 8:48] = 1
CAT = Request("a red cat", seed=3, steps=4)


@functools.cache
def pipeline_of(name: str) -> Pipeline:
    """A narrow system with random weights."""
    model = build(narrow(name)).eval().requires_grad_(False)
    randomise(model)
    folder = Path(tempfile.mkdtemp())
    write_vocabulary(folder)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat"]))
    model.conditioner.look_in(folder)
    return Pipeline(model)


@pytest.fixture(autouse=True)
def no_installed_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "CLIP_PACKAGES", ())


@pytest.fixture
def pipeline(tiny_model: LatentDiffusion) -> Pipeline:
    return Pipeline(tiny_model)


def apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


words = st.sampled_from(["cat", "a (dog:1.4)", "[cat|dog]", "[a:b:2]", "x AND y :0.7", "cat " * 70, "cat " * 160])
samplers = st.sampled_from(["Euler", "Euler a", "DDIM", "Heun", "DPM++ 2M", "DPM++ 2M SDE", "UniPC", "LCM"])
extras = st.sampled_from(
    [
        Guidance(),
        Guidance(rescale=0.6),
        Guidance(apg=True),
        Guidance(interval=(0.2, 0.7)),
        Guidance(pag_scale=1.0),
        Guidance(dynamic_threshold=0.95),
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Unlike in everything that runs may differ in."""
    changes = draw(
        st.sampled_from(
            [
                {},
                {"negative_prompt": "dog " * 90},
                {"guidance_scale": 1.0},
                {"width": 128},
                {"deepcache_interval": 2},
                {"image": PHOTO, "strength": 0.7},
                {"image": PHOTO, "mask": MASK, "strength": 0.8},
                {"regions": (Region("a dog", (0.0, 0.0, 0.5, 1.0), 0.7),)},
                {"hires": HighResolution(1.5, 0.6)},
                {"seed_mode": "a1111"},
            ]
        )
    )
    plain = {"width": 64, "height": 64, "guidance_scale": draw(st.sampled_from([3.0, 7.5]))}
    return Request(
        **{**plain, **changes},
        prompt=draw(words),
        seed=draw(st.integers(0, 9)),
        steps=draw(st.integers(2, 4)),
        sampler=draw(samplers),
        guidance=draw(extras),
    )


@pytest.mark.parametrize("name", ["sd-v1-5", "sd-v2-768-v", "sdxl-base"])
@settings(
    deadline=None,
    derandomize=True,
    max_examples=3,
    phases=[Phase.generate],  # to shrink a mix of pictures takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(mix=st.lists(requests(), min_size=2, max_size=4))
def test_a_picture_is_the_same_in_any_company(name: str, mix: list[Request]) -> None:
    together = pipeline_of(name).generate(mix)
    alone = [pipeline_of(name).generate([r])[0].pixels for r in mix]
    assert [apart(a, p.pixels) for a, p in zip(alone, together) if apart(a, p.pixels) > 1] == []


def test_exact_runs_are_bitwise_the_same_in_any_company(pipeline: Pipeline) -> None:
    exact = Pipeline(pipeline.model, exact=True)
    mix = [CAT, replace(CAT, prompt="two dogs", steps=6, sampler="Heun"), replace(CAT, seed=9, guidance_scale=2.0)]
    for request, together in zip(mix, exact.generate(mix)):
        alone = exact.generate([request])[0]
        assert np.array_equal(alone.pixels, together.pixels)
        assert torch.equal(alone.latent, together.latent)
        assert torch.equal(alone.latent, pipeline.generate([request])[0].latent)


def test_a_long_prompt_leaves_a_short_one_as_it_is() -> None:
    """Empty chunks beside a prompt of several chunks would be another prompt."""
    short, long = (Request(p, seed=1, steps=2, width=64, height=64) for p in ("cat", "cat " * 160))
    for name in ("sd-v1-5", "sdxl-base"):
        pipeline = pipeline_of(name)
        beside = pipeline.generate([short, long])
        assert apart(beside[0].pixels, pipeline.generate([short])[0].pixels) <= 1
        assert apart(beside[1].pixels, pipeline.generate([long])[0].pixels) <= 1


def test_prompts_share_calls_as_long_as_repeating_them_pays() -> None:
    """One and two chunks meet in two; three and four would meet in twelve, and take turns."""
    pipeline = pipeline_of("sd-v1-5")
    prompts = ["cat", " BREAK ".join(["cat"] * 2), " BREAK ".join(["cat"] * 3), " BREAK ".join(["cat"] * 4)]
    with Engine() as engine:
        requests = [Request(p, steps=1, width=64, height=64, guidance_scale=1.0) for p in prompts]
        for ticket in [pipeline.submit(engine, r) for r in requests]:
            ticket.result()
        assert engine.batcher.calls == [3, 1]  # one, two and four chunks, then three


def test_unlike_pictures_share_calls(pipeline: Pipeline) -> None:
    mix = [CAT, replace(CAT, sampler="Euler a", prompt="a AND b"), replace(CAT, negative_prompt="x", seed=8)]
    with Engine() as engine:
        tickets = [pipeline.submit(engine, request) for request in mix]
        for ticket in tickets:
            ticket.result()
        assert engine.batcher.calls == [2 + 3 + 2] * 4


def test_without_guidance_the_network_is_asked_for_the_prompt_alone(pipeline: Pipeline) -> None:
    with Engine() as engine:
        pipeline.submit(engine, replace(CAT, guidance_scale=1.0)).result()
        assert engine.batcher.calls == [1] * 4


def test_pictures_join_and_leave_between_steps(pipeline: Pipeline) -> None:
    alone = pipeline.generate([CAT, replace(CAT, seed=5, steps=7)])
    with Engine() as engine:
        late = []

        def join(step: Step, pass_number: int) -> None:
            if step.index == 1:
                late.append(pipeline.submit(engine, replace(CAT, seed=5, steps=7)))

        first = pipeline.submit(engine, CAT, join)
        assert apart(first.result().pixels, alone[0].pixels) <= 1
        assert apart(late[0].result().pixels, alone[1].pixels) <= 1
        assert engine.batcher.calls == [2, 2, 4, 4, *[2] * 5]


def test_two_iterators_on_one_model_do_not_disturb_each_other(pipeline: Pipeline) -> None:
    other = replace(CAT, prompt="a blue dog", clip_skip=None, guidance=Guidance(pag_scale=2.0))
    alone = pipeline.generate([CAT, other])
    a, b = pipeline.run([CAT]), pipeline.run([other])
    events = [e for pair in zip(a, b) for e in pair]
    pictures = [e[1] for e in events if isinstance(e, tuple)]
    assert [apart(p.pixels, q.pixels) for p, q in zip(pictures, alone)] == [0, 0]


def test_an_error_ends_its_own_run_alone(pipeline: Pipeline) -> None:
    alone = pipeline.generate([CAT])[0]

    def broken(desk: object) -> object:
        raise InputError("a bad option found late")

    with Engine() as engine:
        bad = engine.submit(broken)  # type: ignore[arg-type]
        lost = pipeline.submit(engine, replace(CAT, seed=8))
        good = pipeline.submit(engine, CAT)
        engine.tick()
        lost.cancel()
        assert apart(good.result().pixels, alone.pixels) <= 1
        with pytest.raises(InputError, match="a bad option found late"):
            bad.result()
        with pytest.raises(Cancelled):
            lost.result()
        assert lost.step is not None
        assert lost.step.index == 0
        lost.cancel()  # of what is over: nothing


def test_the_others_are_drawn_before_an_error_is_raised(pipeline: Pipeline) -> None:
    latent = torch.zeros(8, 3, 3)  # the shape is looked at when the run begins
    events = pipeline.run([replace(CAT, latent=latent), CAT])
    *_, last = (next(events) for _ in range(CAT.steps + 1))  # type: ignore[operator]
    assert isinstance(last, tuple)
    assert last[0] == 1
    with pytest.raises(InputError, match="the latent has shape"):
        next(events)


def test_a_joint_call_that_fails_is_the_fault_of_who_fails_alone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from darkroom.engine import batcher

    answer, calls = batcher.answer, []

    def fails(asks: list, told: object) -> list[torch.Tensor]:
        calls.append(len(asks))
        if any(float(a.x.abs().max()) > 1e6 for a in asks):
            raise RuntimeError("too large")
        return answer(asks, told)  # type: ignore[arg-type]

    monkeypatch.setattr(batcher, "answer", fails)
    huge = replace(CAT, latent=torch.full((8, 4, 4), 1e7), seed=4)
    with Engine() as engine:
        bad, good = pipeline.submit(engine, huge), pipeline.submit(engine, CAT)
        assert good.result().pixels.shape == (32, 32, 3)
        with pytest.raises(RuntimeError, match="too large"):
            bad.result()
    assert calls == [2, 1, 1, 1, 1, 1]


def test_memory_that_runs_out_means_fewer_rows(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkroom.engine import batcher

    answer, rows = batcher.answer, []

    def limited(asks: list, told: object) -> list[torch.Tensor]:
        rows.append(sum(a.rows for a in asks))
        if rows[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer(asks, told)  # type: ignore[arg-type]

    monkeypatch.setattr(batcher, "answer", limited)
    requests = [replace(CAT, seed=s) for s in range(4)]
    limit = 4
    assert len(pipeline.generate(requests)) == 4
    assert rows[0] == 8
    assert max(rows[1:]) == 4  # learned
    limit = 1
    with pytest.raises(InputError, match="drawing 32x32 takes more memory than the device has left"):
        pipeline.generate([CAT, replace(CAT, guidance_scale=1.0)])


def test_no_shape_starves_however_many_equals_keep_joining(pipeline: Pipeline) -> None:
    with Engine(most=4) as engine:
        equals = [pipeline.submit(engine, replace(CAT, seed=s)) for s in range(3)]
        odd = pipeline.submit(engine, replace(CAT, width=48))
        ticks = 0
        while not odd.done:
            equals += [pipeline.submit(engine, replace(CAT, seed=9)) for t in equals[-3:] if t.done]
            engine.tick()
            ticks += 1
        assert ticks <= 2 * CAT.steps + 1  # type: ignore[operator]  # every second call at least is its own


def test_an_engine_with_a_thread_takes_pictures_from_any_thread(pipeline: Pipeline) -> None:
    alone = pipeline.generate([CAT])[0]
    with Engine(most=3).start() as engine:
        results: list[int] = []

        def ask() -> None:
            results.append(apart(pipeline.submit(engine, CAT).result(240).pixels, alone.pixels))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
        assert len(results) == 6
        assert max(results) <= 1
        waiting = [pipeline.submit(engine, replace(CAT, steps=500)) for _ in range(5)]
    for ticket in waiting:  # closed: those under way end, those waiting never begin
        with pytest.raises(Cancelled):
            ticket.result(240)
    with pytest.raises(InputError, match="the engine is closed"):
        pipeline.submit(engine, CAT)


def test_what_asks_nothing_of_the_network_goes_beside_the_steps_of_others(pipeline: Pipeline) -> None:
    begun, decoding, stepped = (threading.Event() for _ in range(3))

    def listen(step: Step, pass_number: int) -> None:
        begun.set()
        if decoding.is_set():
            stepped.set()

    def long_decoding() -> bool:
        assert torch.is_inference_mode_enabled()
        decoding.set()
        return stepped.wait(240)

    with Engine().start() as engine:
        other = pipeline.submit(engine, replace(CAT, steps=900), listen)
        assert begun.wait(240)
        first, never = (engine.submit(lambda desk: desk.beside(long_decoding)) for _ in range(2))  # type: ignore[arg-type]
        never.cancel()
        with pytest.raises(Cancelled):  # though its work has not begun
            never.result(240)
        assert first.result(240) is True
        failing = engine.submit(lambda desk: desk.beside(lambda: 1 / 0))  # type: ignore[arg-type]
        with pytest.raises(ZeroDivisionError):
            failing.result(240)
        assert not other.done


def test_an_interrupt_leaves_the_engine_whole(pipeline: Pipeline) -> None:
    def interrupt(step: Step, pass_number: int) -> None:
        raise KeyboardInterrupt

    with Engine() as engine:
        stopped, good = pipeline.submit(engine, CAT, interrupt), pipeline.submit(engine, replace(CAT, seed=1))
        with pytest.raises(KeyboardInterrupt):
            engine.tick()
        assert stopped.done
        assert good.result().pixels.shape == (32, 32, 3)


@pytest.fixture
def grad_state() -> Iterator[None]:
    assert not torch.is_inference_mode_enabled()
    yield
    assert not torch.is_inference_mode_enabled()


def test_what_callers_compute_between_steps_is_theirs(pipeline: Pipeline, grad_state: None) -> None:
    for _ in pipeline.run([CAT]):
        x = torch.ones(1, requires_grad=True)
        (x * 2).backward()
        assert float(x.grad) == 2  # type: ignore[arg-type]

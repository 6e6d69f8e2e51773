"""What differs from task to task: the start, the stretch of the schedule, what wraps the denoiser."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from darkroom.engine.pipeline import Pipeline, Progress
from darkroom.engine.refine import refine
from darkroom.errors import InputError
from darkroom.pictures.outpaint import extended
from darkroom.pixels import resized
from darkroom.requests.plan import plan
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Guidance, HighResolution, Region, Request

CAT = Request("a red cat on a meadow", seed=3, steps=6)
PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
MASK = np.zeros((32, 32), np.uint8)
MASK[8:24, 4:20] = 1


@pytest.fixture
def pipeline(tiny_model: LatentDiffusion) -> Pipeline:
    return Pipeline(tiny_model)


def draw(pipeline: Pipeline, request: Request = CAT, **changes: object) -> np.ndarray:
    return pipeline.generate([replace(request, **changes)])[0].pixels.astype(int)  # type: ignore[arg-type]


def test_strength_says_how_many_steps_run_and_how_far_the_picture_moves(pipeline: Pipeline) -> None:
    for strength, steps in ((0.5, 3), (0.34, 2), (1.0, 6)):
        events = list(pipeline.run([replace(CAT, image=PICTURE, strength=strength)]))
        assert sum(isinstance(e, Progress) for e in events) == steps
    reconstructed = pipeline.model.decode_latents(
        pipeline.model.encode_images(torch.from_numpy(PICTURE / 127.5 - 1).permute(2, 0, 1)[None].float())
    )
    plain = ((reconstructed[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).numpy()
    slight, strong = (np.abs(draw(pipeline, image=PICTURE, strength=s, steps=50) - plain).mean() for s in (0.02, 0.9))
    assert slight < strong


def test_a_picture_gives_the_size_and_is_cut_to_what_the_system_makes(pipeline: Pipeline) -> None:
    assert draw(pipeline, image=np.zeros((50, 70, 3), np.uint8)).shape == (48, 64, 3)
    assert draw(pipeline, image=np.zeros((50, 70, 3), np.uint8), width=32, height=32).shape == (32, 32, 3)


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DPM++ SDE", "UniPC"])
def test_what_is_not_masked_comes_back_to_the_pixel(pipeline: Pipeline, sampler: str) -> None:
    drawn = draw(pipeline, image=PICTURE, mask=MASK, sampler=sampler)
    assert np.array_equal(drawn[MASK == 0], PICTURE[MASK == 0])
    assert not np.array_equal(drawn[MASK == 1], PICTURE[MASK == 1])
    soft = draw(pipeline, image=PICTURE, mask=MASK, mask_blur=1.0)
    assert np.array_equal(soft[:2], PICTURE[:2])  # far from the edge
    assert not np.array_equal(soft[7, 4:20], PICTURE[7, 4:20])  # the edge is mixed


def test_the_masked_part_alone_is_drawn_at_the_full_size_and_put_back(pipeline: Pipeline) -> None:
    large = np.random.default_rng(1).integers(0, 256, (70, 90, 3), np.uint8)
    mask = np.zeros((70, 90), np.uint8)
    mask[30:50, 60:80] = 1
    whole = draw(pipeline, image=large, mask=mask, mask_padding=0, width=32, height=32)
    assert np.array_equal(whole[mask == 0], large[mask == 0])
    part = draw(pipeline, image=large[30:50, 60:80], mask=mask[30:50, 60:80], width=32, height=32)
    assert np.array_equal(whole[30:50, 60:80], resized(part.astype(np.uint8), 20, 20))
    around = draw(pipeline, image=large, mask=mask, mask_padding=6, mask_blur=2.0, width=32, height=32)
    assert np.array_equal(around[:20], large[:20])
    assert not np.array_equal(around[29, 60:80], large[29, 60:80])  # the edge is mixed
    usual = draw(pipeline, image=large, mask=mask, mask_padding=6)
    assert usual.shape == large.shape


def test_the_masked_pixels_say_nothing_at_full_strength(pipeline: Pipeline) -> None:
    """What will be repainted must not leak into the result."""
    everything = np.ones((32, 32), np.uint8)
    a, b = (draw(pipeline, image=p, mask=everything) for p in (PICTURE, PICTURE[::-1].copy()))
    assert np.array_equal(a, b)
    a, b = (draw(pipeline, image=p, mask=everything, strength=0.8) for p in (PICTURE, PICTURE[::-1].copy()))
    assert not np.array_equal(a, b)


def test_outpainting_keeps_the_picture_and_fills_the_rest(pipeline: Pipeline) -> None:
    canvas, mask = extended(PICTURE, 16, 0, 16, 32)
    assert canvas.shape == (64, 64, 3)
    drawn = draw(pipeline, image=canvas, mask=mask)
    assert np.array_equal(drawn[:32, 16:48], PICTURE)
    assert mask.sum() == 64 * 64 - 32 * 32
    with pytest.raises(InputError, match="outpainting by"):
        extended(PICTURE, 0, 0, 0, 0)


def test_two_stretches_are_one_run(pipeline: Pipeline) -> None:
    """A deterministic solver of one step: handing over in the middle changes nothing."""
    request = replace(CAT, sampler="Euler", schedule="leading", steps=10)
    whole = pipeline.generate([request])[0]
    begun = pipeline.generate([replace(request, denoising_end=0.6)])[0]
    ended = pipeline.generate([replace(request, latent=begun.latent, denoising_start=0.6)])[0]
    assert torch.allclose(ended.latent, whole.latent, atol=1e-4)
    assert not torch.allclose(begun.latent, whole.latent, atol=1e-2)
    edited = replace(request, prompt="[a red cat:a blue dog:3]")  # prompts change by the steps of the whole schedule
    whole = pipeline.generate([edited])[0]
    begun = pipeline.generate([replace(edited, denoising_end=0.6)])[0]
    ended = pipeline.generate([replace(edited, latent=begun.latent, denoising_start=0.6)])[0]
    assert torch.allclose(ended.latent, whole.latent, atol=1e-4)


def test_a_refiner_that_is_the_base_changes_nothing(pipeline: Pipeline) -> None:
    requests = [replace(CAT, sampler="Euler", schedule="leading", steps=10, seed=s) for s in (1, 2)]
    refined = dict(e for e in refine(pipeline, pipeline, requests, 0.8) if not isinstance(e, Progress))
    for i, whole in enumerate(pipeline.generate(requests)):
        assert np.abs(refined[i].pixels.astype(int) - whole.pixels).max() <= 1
        assert refined[i].plan.request == requests[i]
    with pytest.raises(InputError, match=r"hands over at 1\.5"):
        list(refine(pipeline, pipeline, requests, 1.5))


def test_a_second_pass_enlarges(pipeline: Pipeline) -> None:
    for how in ("latent", "picture"):
        hires = HighResolution(1.5, 0.5, enlarge=how)  # type: ignore[arg-type]
        events = list(pipeline.run([replace(CAT, hires=hires), replace(CAT, hires=hires, seed=9)]))
        steps = [e.pass_number for e in events if isinstance(e, Progress) and e.index == 1]
        assert steps == [0] * 6 + [1] * 3
        pictures = [e[1] for e in events if not isinstance(e, Progress)]
        assert [p.pixels.shape for p in pictures] == [(48, 48, 3)] * 2
        assert pictures[0].plan.width == 32  # what was asked for


def test_stacks_of_guidance_change_the_picture_and_none_is_the_plain_one(pipeline: Pipeline) -> None:
    strong = replace(CAT, guidance_scale=30.0)  # random weights hear little of the prompt
    plain = draw(pipeline, strong)
    assert np.array_equal(plain, draw(pipeline, strong, guidance=Guidance(interval=(0.0, 1.0))))
    seen = [plain]
    for guidance in (
        Guidance(rescale=0.7),
        Guidance(interval=(0.0, 0.5)),
        Guidance(dynamic_threshold=0.9),
        Guidance(pag_scale=3.0),
        Guidance(apg=True),
        Guidance(0.7, (0.2, 0.8), 0.95, 2.0, apg=True),
    ):
        drawn = draw(pipeline, strong, guidance=guidance)
        assert all(not np.array_equal(drawn, other) for other in seen), guidance
        seen.append(drawn)


def test_perturbed_attention_leaves_the_model_as_it_was(pipeline: Pipeline) -> None:
    before = draw(pipeline)
    draw(pipeline, guidance=Guidance(pag_scale=3.0))
    assert np.array_equal(before, draw(pipeline))


def test_deep_features_are_computed_less_often(pipeline: Pipeline) -> None:
    runs = []
    hook = pipeline.model.unet.mid_block1.register_forward_hook(lambda *_: runs.append(1))
    plain = draw(pipeline)
    full = len(runs)
    reused = draw(pipeline, deepcache_interval=3)
    hook.remove()
    assert len(runs) - full == -(-full // 3)
    assert not np.array_equal(reused, plain)
    assert np.array_equal(draw(pipeline), plain)  # nothing stays behind


def test_merged_tokens_give_other_pictures_alone_as_in_a_batch(pipeline: Pipeline) -> None:
    plain = draw(pipeline)
    assert np.array_equal(draw(pipeline, tome_ratio=0.0), plain)
    merged = draw(pipeline, tome_ratio=0.5)
    assert not np.array_equal(merged, plain)
    assert np.array_equal(draw(pipeline, tome_ratio=0.5), merged)
    others = [replace(CAT, tome_ratio=0.5, seed=s) for s in (8, CAT.seed, 9)]
    assert np.abs(pipeline.generate(others)[1].pixels.astype(int) - merged).max() <= 1
    everywhere = Region(CAT.prompt, (0.0, 0.0, 1.0, 1.0))
    assert not np.array_equal(
        draw(pipeline, tome_ratio=0.5, regions=(everywhere,)), draw(pipeline, regions=(everywhere,))
    )


def test_without_transformers_no_tokens_can_be_merged(tiny_model: LatentDiffusion) -> None:
    blocks = replace(tiny_model.system.unet, attention="block")
    with pytest.raises(InputError, match="tiny has no transformers whose tokens could be merged"):
        plan(replace(CAT, tome_ratio=0.5), replace(tiny_model.system, unet=blocks))


def test_regions_draw_their_prompts_where_they_are(pipeline: Pipeline) -> None:
    whole = Region(CAT.prompt, (0.0, 0.0, 1.0, 1.0))
    assert np.abs(draw(pipeline) - draw(pipeline, prompt="a blue dog", regions=(whole,))).max() <= 1
    left = Region("a blue dog", (0.0, 0.0, 0.5, 1.0))
    assert not np.array_equal(draw(pipeline), draw(pipeline, regions=(left,)))
    for box in ((0.5, 0.0, 0.5, 1.0), (0.0, 0.0, 1.5, 1.0)):
        with pytest.raises(InputError, match="the region"):
            draw(pipeline, regions=(Region("x", box),))


def test_composed_prompts_are_their_weighted_sum(pipeline: Pipeline) -> None:
    assert np.abs(draw(pipeline) - draw(pipeline, prompt=f"{CAT.prompt} :0.5 AND {CAT.prompt} :0.5")).max() <= 1
    assert not np.array_equal(draw(pipeline), draw(pipeline, prompt=f"{CAT.prompt} AND a dog :-0.5"))


def test_a_weight_of_the_whole_prompt_weighs_guidance(pipeline: Pipeline) -> None:
    halved = draw(pipeline, guidance_scale=2.0)
    assert np.abs(halved - draw(pipeline, prompt=f"{CAT.prompt} :0.5", guidance_scale=4.0)).max() <= 1


def test_negative_prompts_are_one_prompt_whatever_they_say(pipeline: Pipeline) -> None:
    plain = draw(pipeline, negative_prompt="a dog AND a house")
    assert not np.array_equal(plain, draw(pipeline, negative_prompt="a dog"))
    assert np.array_equal(plain, draw(pipeline, negative_prompt="a dog and a house"))
    assert np.array_equal(draw(pipeline, negative_prompt="a dog 16:9"), draw(pipeline, negative_prompt=r"a dog 16\:9"))
    with pytest.raises(InputError, match="the negative prompt names the LoRA 'x'"):
        draw(pipeline, negative_prompt="<lora:x:1>")


def test_edited_prompts_are_each_prompt_at_its_steps(pipeline: Pipeline) -> None:
    assert np.array_equal(draw(pipeline), draw(pipeline, prompt="[a blue dog:a red cat on a meadow:0]"))
    assert np.array_equal(draw(pipeline), draw(pipeline, prompt="[a red cat on a meadow:a dog:6]"))
    plain, late, early = (
        pipeline.generate([replace(CAT, prompt=p)])[0].latent
        for p in (CAT.prompt, "[a red cat on a meadow:a dog:4]", "[a red cat on a meadow:a dog:1]")
    )
    assert 0 < (plain - late).abs().mean() < (plain - early).abs().mean()
    assert not np.array_equal(draw(pipeline), draw(pipeline, prompt="[a red cat|a dog] on a meadow"))


def test_edits_count_on_in_a_second_pass_and_from_the_start_over_a_picture(pipeline: Pipeline) -> None:
    hires = HighResolution(1.5, 0.5)
    plain = draw(pipeline, hires=hires)
    assert np.array_equal(plain, draw(pipeline, prompt="[a red cat on a meadow:a dog:2.0]", hires=hires))
    assert np.array_equal(plain, draw(pipeline, prompt="[a red cat on a meadow:a dog:12]", hires=hires))
    assert not np.array_equal(plain, draw(pipeline, prompt="[a red cat on a meadow:a dog:6]", hires=hires))
    over = draw(pipeline, image=PICTURE, strength=0.5)  # three of six steps
    assert np.array_equal(over, draw(pipeline, image=PICTURE, strength=0.5, prompt=f"[{CAT.prompt}:a dog:3]"))
    assert not np.array_equal(over, draw(pipeline, image=PICTURE, strength=0.5, prompt=f"[{CAT.prompt}:a dog:1]"))


def test_weights_of_words_matter_and_one_is_none(pipeline: Pipeline) -> None:
    assert np.array_equal(draw(pipeline), draw(pipeline, prompt="a (red:1.0) cat on a meadow"))
    drawn = [
        draw(pipeline, prompt="a (red:1.5) (cat:0.5) on a meadow", emphasis=e) for e in ("a1111", "comfy", "compel")
    ]
    for i, a in enumerate([draw(pipeline), *drawn]):
        for b in drawn[i:]:
            assert not np.array_equal(a, b)


def test_a_target_leads(pipeline: Pipeline) -> None:
    target = np.zeros((32, 32, 3), np.uint8)
    target[:, 16:] = 255

    def distance(strength: float) -> float:
        drawn = draw(pipeline, target=target, target_strength=strength)
        return float(np.abs(drawn[:, 16:].mean() - 255) + np.abs(drawn[:, :16].mean()))

    assert np.array_equal(draw(pipeline), draw(pipeline, target=target, target_strength=0.0))
    assert distance(0.3) < distance(0.0)


def test_seed_modes_and_variations(pipeline: Pipeline) -> None:
    drawn = {mode: draw(pipeline, seed_mode=mode) for mode in ("darkroom", "diffusers", "a1111", "comfy")}
    assert np.array_equal(drawn["darkroom"], drawn["diffusers"])
    assert not np.array_equal(drawn["darkroom"], drawn["a1111"])
    other = draw(pipeline, seed=77)
    assert np.array_equal(draw(pipeline, variation_seed=77, variation_strength=0.0), draw(pipeline))
    assert np.abs(draw(pipeline, variation_seed=77, variation_strength=1.0) - other).max() <= 1
    assert not np.array_equal(draw(pipeline, variation_seed=77, variation_strength=0.5), other)


def test_given_levels_and_sampler_options(pipeline: Pipeline) -> None:
    events = list(pipeline.run([replace(CAT, sigmas=(10.0, 3.0, 1.0))]))
    assert [e.step.sigma for e in events if isinstance(e, Progress)] == [10.0, 3.0, 1.0]
    still, lively = (draw(pipeline, sampler="DDIM", sampler_options={"eta": eta}) for eta in (0.0, 1.0))
    assert not np.array_equal(still, lively)


def test_mixed_requests_are_what_they_are_alone(pipeline: Pipeline) -> None:
    requests = [
        CAT,
        replace(CAT, image=PICTURE, strength=0.5),
        replace(CAT, image=PICTURE, mask=MASK),
        replace(CAT, prompt="a (red:1.4) cat AND a dog", seed=5),
        replace(CAT, prompt="[a cat:a dog:3]"),
        replace(CAT, prompt="a dog", seed=8, guidance=Guidance(rescale=0.5)),
        replace(CAT, prompt="a dog", seed=8, inputs={"crop": (16, 0)}),
        replace(CAT, image=PICTURE[::-1].copy(), strength=0.5, seed=11),
    ]
    for request, together in zip(requests, pipeline.generate(requests)):
        alone = pipeline.generate([request])[0]
        assert np.abs(alone.pixels.astype(int) - together.pixels).max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": PICTURE, "strength": 1.5}, "the strength is 1.5, expected is 0 to 1"),
        ({"strength": -0.5}, "the strength is -0.5, expected is 0 to 1"),
        ({"hires": HighResolution(2.0, 0.01)}, "leaves none of the 6 steps"),
        ({"hires": HighResolution(2.0, 0.5, 5000)}, "the number of steps is 5000"),
        ({"guidance": Guidance(pag_scale=float("nan"))}, "the scale of perturbed attention is nan"),
        ({"target": PICTURE, "target_strength": float("inf")}, "the strength of the target is inf"),
        ({"inputs": {"class": 3}}, "the input 'class' is given, which tiny does not read"),
        ({"inputs": {"noise_level": 3}}, "the input 'noise_level' is given"),
        ({"image": PICTURE, "strength": 0.01}, "leaves none of the 6 steps"),
        ({"mask": MASK}, "a mask is given without the image"),
        ({"image": PICTURE, "mask": MASK[None]}, "the mask has shape"),
        ({"image": PICTURE, "mask": MASK * 0}, "the mask is empty"),
        ({"image": PICTURE, "mask": MASK, "mask_padding": -1}, "the padding of the mask is -1, expected are 0"),
        ({"image": PICTURE, "mask": MASK, "mask_padding": 4, "target": PICTURE}, "cannot go together with a target"),
        ({"image": PICTURE.astype(float)}, "the image has shape"),
        ({"denoising_start": 0.5, "denoising_end": 0.2}, "the part 0.5 to 0.2 of the schedule is wrong"),
        ({"latent": torch.full((8, 4, 4), float("nan"))}, "not finite"),
        ({"latent": torch.zeros(8, 3, 4)}, "the latent has shape"),
        ({"hires": HighResolution(0.5)}, "enlarges by 0.5"),
        ({"hires": HighResolution(), "image": PICTURE, "mask": MASK}, "neither with a mask"),
        ({"prompt": "a" * 100_000}, "the prompt has 100000 characters, accepted are at most 20000"),
        ({"prompt": "(" * 1000}, "nested more than"),
        ({"prompt": "(a:1e9)" + "(b:99999)"}, "the weight 99999 in"),
        ({"emphasis": "loud"}, "unknown emphasis 'loud'; known are: "),
        ({"deepcache_interval": 0}, "the DeepCache interval is 0"),
        ({"tome_ratio": 0.8}, "the share of tokens to merge is 0.8, expected is 0 to 0.75"),
        ({"tome_ratio": float("nan")}, "the share of tokens to merge is nan"),
        ({"seed_mode": "random"}, "unknown seed mode 'random'"),
        ({"clip_skip": 2}, "this system has no CLIP text encoder"),
        ({"sigmas": (1.0, 2.0)}, "do not fall"),
        ({"sampler_options": {"eta": 1.0}}, "has no options|unknown"),
        ({"variation_seed": 1, "variation_strength": 2.0}, "the variation strength is 2.0"),
        ({"guidance": Guidance(interval=(0.9, 0.1))}, "guidance from 0.9 to 0.1 of the steps"),
        ({"guidance": Guidance(rescale=7.0)}, "the share of guidance to rescale is 7.0"),
        ({"prompt": "a <lora:nosuch:1>"}, "no folder of LoRAs is given"),
    ],
)
def test_bad_requests_get_one_sentence(pipeline: Pipeline, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw(pipeline, **change)

import numpy as np
import pytest
import torch

from darkroom.diffusion.brownian_path import BrownianTree
from darkroom.diffusion.philox import PhiloxGenerator, philox
from darkroom.diffusion.seeds import PATHS, SEED_MODES, ComfyNoise, PhiloxNoise, slerp
from darkroom.errors import InputError
from darkroom.types import NoiseSource

A, B = torch.tensor(3.0), torch.tensor(2.0)
SHAPE = (4, 5, 6)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the known answers that come with Random123
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter: list[int], key: tuple[int, int], words: list[int]) -> None:
    assert philox(np.array(counter, dtype=np.uint64)[:, None], key)[:, 0].tolist() == words


def test_normal_numbers_of_a_cuda_device_with_seed_0() -> None:
    """What `torch.manual_seed(0); torch.randn(12, device="cuda")` is known to print."""
    known = [-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564]
    known += [-0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497]
    assert PhiloxGenerator(0).normal((12,)).tolist() == pytest.approx(known, abs=1e-6)


def test_philox_numbers_are_normal_and_a_seed_may_have_64_bits() -> None:
    generator = PhiloxGenerator(2**40 + 7)
    first, second = generator.normal((100_000,)), generator.normal((100_000,))
    for draw in (first, second):
        assert float(draw.mean()) == pytest.approx(0, abs=0.01)
        assert float(draw.std()) == pytest.approx(1, abs=0.01)
    assert abs(float((first * second).mean())) < 0.01
    assert not torch.equal(first, PhiloxGenerator(7).normal((100_000,)))


@pytest.mark.parametrize("mode", list(SEED_MODES))
def test_in_every_mode_a_picture_does_not_depend_on_its_batch(mode: str) -> None:
    alone, among = SEED_MODES[mode]([5], SHAPE, "cpu"), SEED_MODES[mode]([1, 5, 9], SHAPE, "cpu")
    assert torch.equal(alone.draw()[0], among.draw()[1])
    for _ in range(2):
        assert torch.equal(alone(A, B)[0], among(A, B)[1])


def test_the_default_and_diffusers_draw_start_and_steps_from_one_generator_per_picture() -> None:
    source = SEED_MODES["diffusers"]([3], SHAPE, "cpu")
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(source.draw(), torch.randn((1, *SHAPE), generator=generator))
    assert torch.equal(source(A, B), torch.randn((1, *SHAPE), generator=generator))


def test_comfy_draws_a_batch_from_one_seed() -> None:
    batch = torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(8))
    rows = [ComfyNoise([8], SHAPE, row=i, rows=3).draw()[0] for i in range(3)]
    assert torch.equal(torch.stack(rows), batch)
    steps = torch.Generator().manual_seed(9)
    source = ComfyNoise([8], SHAPE, row=2, rows=3, steps_on="cpu")
    for _ in range(2):
        assert torch.equal(source(A, B)[0], torch.randn((3, *SHAPE), generator=steps)[2])
    assert torch.equal(ComfyNoise([8], SHAPE)(A, B)[0], PhiloxGenerator(8).normal((1, *SHAPE))[0])


@pytest.mark.parametrize("mode", list(SEED_MODES))
def test_a_step_delta_moves_the_noise_of_steps_only(mode: str) -> None:
    plain, moved = SEED_MODES[mode]([2], SHAPE, "cpu"), SEED_MODES[mode]([2], SHAPE, "cpu", step_delta=31337)
    assert torch.equal(plain.draw(), moved.draw())
    step = moved(A, B)
    assert not torch.equal(plain(A, B), step)
    if mode.startswith("a1111"):  # as if that seed were the picture's
        assert torch.equal(step, SEED_MODES[mode]([2 + 31337], SHAPE, "cpu").draw())
    highest = SEED_MODES[mode]([2**64 - 1], SHAPE, "cpu", step_delta=1)
    highest.draw()
    assert highest(A, B).isfinite().all()


def test_unknown_modes_list_the_known() -> None:
    with pytest.raises(InputError, match="comfy"):
        SEED_MODES["invoke"]


def test_slerp_keeps_the_spread_and_its_ends() -> None:
    a, b = (PhiloxNoise([s, s + 1], (4, 32, 32)).draw() for s in (1, 3))
    assert torch.allclose(slerp(a, b, 0.0), a, atol=1e-5)
    assert torch.allclose(slerp(a, b, 1.0), b, atol=1e-5)
    assert slerp(a, b, 0.5).flatten(1).std(dim=1) == pytest.approx([1, 1], abs=0.03)
    assert torch.allclose(slerp(a, a, 0.3), a)


def test_brownian_trees_are_those_of_torchsde() -> None:
    """Known answers of torchsde 0.2.6 through k-diffusion's noise sampler; it sums in 32 bits."""
    sigmas = torch.tensor([14.614641, 9.7, 6.5, 3.3, 1.2, 0.5, 0.1, 0.0291675])
    tree = BrownianTree([7, 5, 2**40 + 3], (4, 8, 8), float(sigmas[-1]), float(sigmas[0]))
    first, later = tree(sigmas[0], sigmas[1]).flatten(1), tree(sigmas[2], sigmas[3]).flatten(1)
    assert first[1, :3].tolist() == pytest.approx([-0.9200, 1.8373, 0.6416], abs=1e-4)
    assert later[1, :4].tolist() == pytest.approx([2.3796, -0.3871, 1.3069, -0.0808], abs=1e-4)
    assert first[2, :3].tolist() == pytest.approx([0.0530, -0.2621, 0.4471], abs=1e-4)
    assert later[2, :4].tolist() == pytest.approx([-0.3111, -0.5288, 0.5446, 1.0783], abs=1e-4)


@pytest.mark.parametrize("mode", PATHS)
def test_paths_are_normal_add_up_and_do_not_depend_on_the_batch(mode: str) -> None:
    def path(seeds: list[int]) -> NoiseSource:
        return PATHS[mode](seeds, (4000,), 0.03, 14.6, "cpu")

    a, b, c = (torch.tensor(s) for s in (10.0, 6.0, 1.0))
    w = path([3])
    first, second, whole = w(a, b), w(b, c), w(a, c)
    assert torch.allclose(first * 4.0**0.5 + second * 5.0**0.5, whole * 9.0**0.5, atol=1e-4)
    for noise in (first, second, whole):
        assert float(noise.mean()) == pytest.approx(0, abs=0.05)
        assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert abs(float((first * second).mean())) < 0.05
    assert torch.equal(path([8, 3])(b, c)[1], second[0])

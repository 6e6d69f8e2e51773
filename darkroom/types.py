"""The contracts between the rooms of the house, on one page. No torch at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ControlUnit",
    "Denoise",
    "Guidance",
    "GuidedDenoise",
    "HighResolution",
    "Network",
    "NoiseSource",
    "Region",
    "Request",
    "Sample",
    "Sampler",
    "Size",
    "Step",
]


@dataclass(frozen=True, order=True)
class Size:
    """Height before width, in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"  # the spelling that users type


class Denoise(Protocol):
    """The one contract of sampling: the estimate of the clean latent.

    `x` (B, C, h, w) is `x0 + sigma * noise` (variance-exploding); `sigma` is a scalar tensor or (B,).
    Returns the estimate of x0, shaped like `x`.
    """

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor: ...


@runtime_checkable
class GuidedDenoise(Denoise, Protocol):
    """A denoiser that also tells its unconditional estimate, which samplers of CFG++ ask for."""

    def both(self, x: Tensor, sigma: Tensor, /) -> tuple[Tensor, Tensor]:
        """(What calling it returns, the estimate without the prompt), of one evaluation."""
        ...


class Network(Protocol):
    """What a diffusion process wraps: scaled input (B, C, h, w) and timestep (B,), fractions allowed; raw output."""

    def __call__(self, x: Tensor, t: Tensor, /) -> Tensor: ...


class NoiseSource(Protocol):
    """Unit normal noise for a step from `sigma` down to `sigma_next`, one generator per image, shape of the latent.

    Plain sources ignore the two levels; a Brownian path uses them so that noise agrees across step counts.
    """

    def __call__(self, sigma: Tensor, sigma_next: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Step:
    """What a sampler yields after each step: enough for progress, preview and cancelling."""

    index: int  # 0 … total - 1
    total: int  # expected so far, where a sampler chooses its steps as it goes
    sigma: float  # the level that this step came from
    x: Tensor  # the latent after the step, at the next level
    x0: Tensor  # the clean estimate that the step used


# sampler(denoise, x, sigmas, noise) yields one Step per step; `sigmas` falls and ends in zero or where its slice ends.
Sampler = Callable[["Denoise", "Tensor", "Tensor", "NoiseSource"], Iterator[Step]]


@dataclass(frozen=True)
class Guidance:
    """What is done to classifier-free guidance besides its scale; nothing by default. All of it can be stacked."""

    rescale: float = 0.0  # share brought back to the conditional spread, for zero terminal SNR about 0.7
    interval: tuple[float, float] | None = None  # guided between these shares of the steps only; as the system has it
    dynamic_threshold: float | None = None  # percentile of dynamic thresholding, 0.995 say
    pag_scale: float = 0.0  # scale of perturbed-attention guidance
    apg: bool = False  # adaptive projected guidance in place of the plain formula


@dataclass(frozen=True)
class Region:
    """A prompt of its own for a part of the picture, beside the request's prompt, which rules the rest."""

    prompt: str
    box: tuple[float, float, float, float]  # left, top, right, bottom as shares of the sides
    weight: float = 1.0  # against everything else that is wanted in the same place


@dataclass(frozen=True)
class HighResolution:
    """A second pass: the picture enlarged by `scale` and drawn over from `strength` of the noise."""

    scale: float = 2.0
    strength: float = 0.6
    steps: int | None = None  # of the whole second schedule; as many as the first by default
    enlarge: Literal["latent", "picture"] = "latent"  # bilinear on latents, or Lanczos on decoded pixels


@dataclass(frozen=True)
class ControlUnit:
    """A network beside the model that leads the drawing by a picture; its file says which of three kinds it is.

    ControlNets and T2I-Adapters follow edges, depth, a pose …, IP-Adapters what a picture shows. Several add up.
    """

    model: str  # a file, a folder as Diffusers writes it, or a name in the folders of such networks
    image: Any  # the hint, or what an IP-Adapter looks at: uint8 (H, W, 3)
    weight: float = 1.0
    start: float = 0.0  # the steps in which it acts, as shares of those that are run
    end: float = 1.0
    guess: bool = False  # on the rows with the prompt alone, coarse features more than fine ones (ControlNet)
    preprocessor: str | None = None  # what makes the hint of `image`: canny, lineart …; None: it is the hint
    encoder: str | None = None  # of an IP-Adapter: its image encoder; None: it is looked for beside the adapter
    image_path: str | None = None  # the file of `image`, for records

    def acts(self, step: int, total: int) -> bool:
        """Whether it gives anything in `step` of the `total` that are run, as Diffusers counts."""
        return step / total >= self.start and (step + 1) / total <= self.end


@dataclass(frozen=True)
class Request:
    """Everything that determines one picture. The same request gives the same picture.

    `None` means the default of the system. `inputs` holds what the embedders read besides the prompt, by the
    embedder's key (boxes, class, segmentation, original_size, crop …). Pictures are uint8 (H, W, 3), masks (H, W) with
    1 or more = repaint.
    """

    prompt: str = ""
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    schedule: str | None = None
    sigmas: tuple[float, ...] | None = None  # falling noise levels in place of schedule and steps
    sampler_options: Mapping[str, Any] = field(default_factory=dict)  # eta, s_churn …, by the sampler's own names
    schedule_options: Mapping[str, Any] = field(default_factory=dict)  # rho, sigma_min, discard_penultimate … likewise
    image: Any = None  # the picture to start from or to inpaint
    mask: Any = None  # the part of `image` to repaint
    mask_blur: float = 0.0  # deviation in pixels of the mask's edge
    mask_padding: int | None = None  # draw the masked part alone, with so many pixels around it, at the full size
    strength: float | None = None  # share of the schedule that is run on `image`; 0.75, with a mask 1, by default
    latent: Any = None  # a noisy latent (C, h, w) to go on from, at the level where the run begins
    denoising_start: float = 0.0  # the part of the schedule to run, as shares of it: hand-overs between models
    denoising_end: float = 1.0
    hires: HighResolution | None = None
    target: Any = None  # a picture whose coarse look the result is to have, on any model
    target_strength: float = 1.0
    guidance: Guidance = Guidance()
    deepcache_interval: int = (
        1  # evaluations from one computing of deep features to the next: faster, not the same picture
    )
    tome_ratio: float = 0.0  # share of tokens merged for self-attention at the finest level, 0 to 0.75; the same
    regions: tuple[Region, ...] = ()
    controls: tuple[ControlUnit, ...] = ()
    prompt_syntax: str = "a1111"  # how all prompts are written: a1111, comfy, compel, plain
    emphasis: str | None = None  # how weights act; as in the tool that the syntax is of by default
    clip_skip: int | None = None  # 1: the last layer, as users count; 2: the one before
    seed_mode: str = "darkroom"
    eta_noise_seed_delta: int = 0  # when not 0, the noise of steps comes from seed + this
    variation_seed: int | None = None  # the starting noise leans to this seed's …
    variation_strength: float = 0.0  # … by so much, 0 to 1
    inputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def draws_part(self) -> bool:
        """Whether the masked part of the picture is drawn alone, and put back into it."""
        return self.image is not None and self.mask is not None and self.mask_padding is not None


@dataclass(frozen=True)
class Sample:
    """One training example: the picture, what is known about it and what was done to it.

    Maps among the conditions, arrays (H, W) or (H, W, C), have the size of the picture; they are cut and mirrored with
    it.
    """

    image: Any  # uint8 array (H, W, 3), RGB; datasets stay free of torch
    conditions: Mapping[str, Any]  # by embedder key: "caption", "boxes", "class" …
    original_size: Size  # before any resizing
    crop: tuple[int, int] = (0, 0)  # top, left, cut after resizing
    target_size: Size | None = None
    flipped: bool = False  # mirrored left to right, after the crop
    weight: float = 1.0  # of its loss
    loss_mask: Any = None  # float32 (H, W), what each place counts in the loss; None: all places count 1

"""The teacher's side: its estimates, guided or not, and what they make the student's aim (papers F.1, step 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.conditioning.conditioning import Conditioning
from darkroom.diffusion.draws import RowDraws
from darkroom.errors import require
from darkroom.systems.build import LatentDiffusion

__all__ = ["DEFECTS", "Aim", "Teacher", "TeacherConfig", "Told", "aim"]

# What nobody asks for, for NFSD's difference to it.
DEFECTS = "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"


@dataclass(frozen=True)
class TeacherConfig:
    """How the teacher's estimates are made, and how the student's distance to them is weighed by noise level.

    "exponential": by alpha_t, less at high noise. "sds": so that the gradient in latents is that of score distillation
    (arXiv:2209.14988). "nfsd": noise-free score distillation (arXiv:2310.17590), with a guidance of its own.
    """

    weighting: Literal["exponential", "sds", "nfsd"] = "exponential"
    guidance: tuple[float, float] = (1.0, 1.0)  # drawn evenly for each picture; 1: the prompt's estimate alone
    guided_from: int = 0  # the first timestep that is guided; below, the prompt's estimate alone …
    guided_to: int | None = None  # … and the last one; None: to the noisiest
    steps: int = 1  # of DDIM from the drawn level down
    nfsd_scale: float = 7.5
    nfsd_negative: str = DEFECTS
    nfsd_timestep: int = 200  # below it the estimate without a prompt stands for the noise

    def __post_init__(self) -> None:
        low, high = self.guidance
        require(0 <= low <= high, "guidance", list(self.guidance), "two rising numbers from 0 up")
        require(self.guided_from >= 0, "guided_from", self.guided_from, "a timestep from 0 up")
        rising = self.guided_to is None or self.guided_to >= self.guided_from
        require(rising, "guided_to", self.guided_to, f"a timestep from guided_from, {self.guided_from}, up")
        require(1 <= self.steps <= 64, "steps", self.steps, "1 to 64")
        require(self.steps == 1 or self.weighting != "nfsd", "steps", self.steps, '1 beside weighting = "nfsd"')

    @property
    def needs_null(self) -> bool:
        """Whether estimates without the prompt are asked for."""
        return self.weighting == "nfsd" or self.guidance != (1.0, 1.0)


@dataclass(frozen=True)
class Told:
    """The rows' conditions, the same without their prompts, and with NFSD's negative prompt, where they are needed."""

    conditioning: Conditioning
    null: Conditioning | None = None
    negative: Conditioning | None = None


class Teacher:
    """A frozen system's view of variance-exploding latents. Estimates are made without gradients."""

    def __init__(self, model: LatentDiffusion, guided_from: int = 0, guided_to: int | None = None) -> None:
        self.model, self.process = model, model.process
        self.guided_from = guided_from
        self.guided_to = len(self.process.sigmas) if guided_to is None else guided_to

    def sigma(self, t: Tensor, like: Tensor) -> Tensor:
        """(B, 1, 1, 1), of the teacher's own schedule."""
        return self.process.sigmas[t.cpu()].view(-1, 1, 1, 1).to(like)

    def levels(self, draws: RowDraws, mean: float, deviation: float) -> Tensor:
        """Timesteps (B,) at which critics see latents: the logit of their share of all is drawn normally."""
        count = len(self.process.sigmas)
        return (torch.sigmoid(mean + deviation * draws.normal()) * count).long().clamp(max=count - 1)

    def output(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The raw prediction for x at the timesteps t (B,); gradients flow to x."""
        _, _, c_in = self.process.scalings(self.sigma(t, x))
        return self.model.network((c_in * x).to(self.model.dtype), t.to(x.device, torch.float32), conditioning)

    @torch.no_grad()
    def estimate(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The clean latents (B, C, h, w) at the timesteps t (B,)."""
        c_skip, c_out, _ = self.process.scalings(self.sigma(t, x))
        return c_skip * x + c_out * self.output(x, t, conditioning).to(x.dtype)

    def guided(self, x: Tensor, t: Tensor, told: Told, scale: Tensor | None) -> Tensor:
        """The estimate under classifier-free guidance of `scale` (B,), between the timesteps `guided_from` and
        `guided_to`; None: the prompt's estimate alone."""
        return self.estimate(x, t, told.conditioning) if scale is None else self.compared(x, t, told, scale)[1]

    def compared(self, x: Tensor, t: Tensor, told: Told, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The prompt's estimate, and the guided one."""
        assert told.null is not None, "guidance needs the estimate without the prompt"
        both = self.estimate(torch.cat([x, x]), torch.cat([t, t]), Conditioning.cat([told.conditioning, told.null]))
        prompted, null = both.chunk(2)
        t = t.to(scale.device)
        scale = torch.where((t < self.guided_from) | (t > self.guided_to), 1.0, scale)
        return prompted, null + scale.view(-1, 1, 1, 1).to(x) * (prompted - null)

    def stepped(self, x: Tensor, t: Tensor, told: Told, scale: Tensor | None, steps: int) -> Tensor:
        """The estimate after `steps` steps of DDIM from t down, at even times."""
        for left in range(steps, 1, -1):
            now, later = t * left // steps, t * (left - 1) // steps
            x0 = self.guided(x, now, told, scale)
            x = x0 + self.sigma(later, x) / self.sigma(now, x) * (x - x0)
        return self.guided(x, t // steps, told, scale)


@dataclass(frozen=True)
class Aim:
    """What the student's latents are to come near, and how much it counts: c(t) · ‖student − latents‖²."""

    latents: Tensor  # (B, C, h, w), a constant
    weight: Tensor  # (B,)


@torch.no_grad()
def aim(teacher: Teacher, config: TeacherConfig, latents: Tensor, told: Told, draws: RowDraws) -> Aim:
    """The teacher's view of the student's `latents`, noised again at a level drawn evenly from all of the teacher's.

    The gradient of weight · ‖latents − aim‖² is, for "sds", the predicted noise less the noise that was added; for
    "nfsd", (ε(y) − ε()) · scale plus what stands for the domain, ε() below `nfsd_timestep`, else ε() − ε(negative).
    """
    z = latents.detach()
    t = (draws.uniform() * len(teacher.process.sigmas)).long()
    noise = draws.normal(*z.shape[1:]).to(z)
    low, high = config.guidance
    scale = low + (high - low) * draws.uniform() if config.guidance != (1.0, 1.0) else None
    sigma = teacher.sigma(t, z)
    x = z + sigma * noise
    if config.weighting == "exponential":
        weight = (sigma.square() + 1).rsqrt()
    else:
        weight = 0.5 / sigma  # alpha / (2 sigma) of the variance-preserving coefficients
    if config.weighting == "nfsd":
        found = z - _noise_free(teacher, config, x, t, told)
    else:
        found = teacher.stepped(x, t, told, scale, config.steps)
    return Aim(found, weight.flatten())


def _noise_free(teacher: Teacher, config: TeacherConfig, x: Tensor, t: Tensor, told: Told) -> Tensor:
    """sigma · (δ_D + s δ_C): differences of noise are differences of estimates, turned around."""
    assert told.null is not None, "NFSD needs estimates without the prompt"
    assert told.negative is not None, "and with the negative one"
    rows = Conditioning.cat([told.conditioning, told.null, told.negative])
    prompted, null, negative = teacher.estimate(torch.cat([x] * 3), torch.cat([t] * 3), rows).chunk(3)
    late = (t < config.nfsd_timestep).view(-1, 1, 1, 1).to(x.device)
    domain = torch.where(late, x - null, negative - null)
    return domain + config.nfsd_scale * (null - prompted)

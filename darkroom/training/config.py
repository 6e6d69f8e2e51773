"""The settings of the training loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from darkroom.errors import require

__all__ = ["LENGTHS", "LoopConfig", "OptimizerConfig"]


LENGTHS = (0.005, 0.28)  # of power-function means; the plain mean, 1/√12 = 0.289, is the limit

OptimizerKind = Literal["adamw", "adamw8bit", "muon"]


@dataclass(frozen=True)
class OptimizerConfig:
    """What one optimizer of an objective has of its own; None: what the loop says."""

    lr: float | None = None
    betas: tuple[float, float] | None = None
    weight_decay: float | None = None
    max_grad_norm: float | None = None
    optimizer: OptimizerKind | None = None
    start_step: int = 0  # until this step what it changes stays as it is: what is new elsewhere must first be heard


@dataclass(frozen=True)
class LoopConfig:
    """How long, how fast, how exactly. A step takes batch_size · grad_accumulation samples over all processes."""

    steps: int  # changes of the weights in all
    batch_size: int  # samples that go through the networks at once, over all processes
    lr: float  # the learning rate
    warmup_steps: int = 0  # of linear rise
    lr_schedule: Literal["constant", "cosine"] = "constant"  # afterwards
    optimizer: OptimizerKind = "adamw"  # "muon": for matrices; AdamW for the rest. "adamw8bit": its state in eight bits
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW's running means
    weight_decay: float = 0.0  # decoupled: a share of the weights times the rate goes at each step
    grad_accumulation: int = 1  # batches a step
    max_grad_norm: float | None = 1.0  # of all gradients of an optimizer
    optimizers: Mapping[str, OptimizerConfig] = field(default_factory=dict)  # by name, what they have of their own
    ema_decay: float = 0.9999  # of the running mean of the weights that is drawn with and exported
    ema_lengths: tuple[float, ...] = (
        # of power-function means beside it, as shares of the run, such as 0.05 and 0.1 (arXiv:2312.02696); from their
        # snapshots `darkroom train ema` makes one of any length
    )
    snapshot_every: int = 1000  # steps between snapshots of them
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # bf16 where the device is fast in it; a run keeps its own
    device: str = "cpu"  # or "cuda", "cuda:1"
    data_parallel: Literal["ddp", "fsdp"] = (
        "ddp"  # of several processes each has all weights, or a part of each (FSDP2)
    )
    gradient_checkpointing: bool = False  # blocks compute their insides again in the backward pass: less memory
    compile: bool = False  # translate the networks' blocks into kernels for the device
    workers: int | None = None  # processes that make batches ahead; not given: on the CPU a thread, on a GPU up to 8
    seed: int = 0  # of the order, the noise and all else that is drawn
    log_every: int = 20  # steps between lines of log.jsonl
    sample_every: int = 500  # steps between sample pictures
    save_every: int = 500  # steps between checkpoints

    def __post_init__(self) -> None:
        every = [f"{what}_every" for what in ("log", "sample", "save", "snapshot")]
        for name in ("steps", "batch_size", "grad_accumulation", *every):
            require(1 <= getattr(self, name) < 2**31, name, getattr(self, name), "at least 1 and below 2³¹")
        require(self.batch_size <= 65_536, "batch_size", self.batch_size, "at most 65536")
        require(self.grad_accumulation <= 4096, "grad_accumulation", self.grad_accumulation, "at most 4096")
        require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")
        require(0 <= self.seed < 2**63, "seed", self.seed, "0 or more and below 2⁶³")
        require(self.workers is None or 0 <= self.workers <= 256, "workers", self.workers, "0 to 256")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "a number from 0 to below 1")
        for length in self.ema_lengths:
            known = LENGTHS[0] <= length <= LENGTHS[1]
            require(known, "ema_lengths", list(self.ema_lengths), f"numbers from {LENGTHS[0]} to {LENGTHS[1]}")
        _check("", self.lr, self.betas, self.weight_decay, self.max_grad_norm)
        for name, own in self.optimizers.items():
            _check(f"optimizers.{name}.", own.lr, own.betas, own.weight_decay, own.max_grad_norm)
            require(own.start_step >= 0, f"optimizers.{name}.start_step", own.start_step, "0 or more")

    @property
    def step_size(self) -> int:
        """Samples a step."""
        return self.batch_size * self.grad_accumulation

    def lr_share(self, step: int) -> float:
        """Of its learning rate, what an optimizer takes at `step` (0-based)."""
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.lr_schedule == "constant":
            return rise
        done = max(0.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _check(
    prefix: str,
    lr: float | None,
    betas: tuple[float, float] | None,
    weight_decay: float | None,
    max_grad_norm: float | None,
) -> None:
    require(lr is None or 0 < lr < math.inf, f"{prefix}lr", lr, "a number above 0")
    decays = weight_decay is None or 0 <= weight_decay < math.inf
    require(decays, f"{prefix}weight_decay", weight_decay, "a number from 0 up")
    shares = betas is None or all(0 <= b < 1 for b in betas)
    require(shares, f"{prefix}betas", betas and list(betas), "two numbers from 0 to below 1")
    clips = max_grad_norm is None or max_grad_norm > 0
    require(clips, f"{prefix}max_grad_norm", max_grad_norm, "a number above 0")

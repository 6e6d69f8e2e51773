"""What a run will take, before it begins: memory by part, work, time and cost, and how pictures fill the buckets.

Nothing is computed: the networks run once forward and backward on PyTorch's device "meta", where tensors have shapes
and no numbers. What autograd keeps there for the backward pass are the activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.checkpoints.load import load_checkpoint
from darkroom.errors import InputError, require
from darkroom.models.autoencoder import Autoencoder
from darkroom.systems.build import build
from darkroom.systems.system import SYSTEMS, System
from darkroom.systems.system_file import find_system
from darkroom.training.adapters import attach_trained
from darkroom.training.autoencoder import AutoencoderRecipe
from darkroom.training.config import LoopConfig
from darkroom.training.distillation.plan import Beside, beside_student
from darkroom.training.distillation.student import DistillationRecipe
from darkroom.training.meta_passes import Activations, counted, in_precision, measured_activations
from darkroom.training.model_ref import system_of
from darkroom.training.recipe_data import open_reader
from darkroom.training.sharding import NETWORKS
from darkroom.types import Size

__all__ = ["Plan", "plan_run", "plan_text"]

# Bytes that an optimizer keeps of each weight that learns.
OPTIMIZER_BYTES = {"adamw": 8.0, "adamw8bit": 2.06, "muon": 4.0}
ALONE = Beside(0, 0.0, 0.0, 0.0, 0.0)  # of recipes without a teacher


@dataclass(frozen=True)
class Plan:
    """Memory in bytes of one device, work in FLOPs of a whole step."""

    parameters: int
    trained: int  # of them
    memory: dict[str, float]  # by part
    flops: float
    seconds_per_step: float | None
    steps: int
    step_size: int
    buckets: dict[Size, int]  # pictures of each
    unreadable: Mapping[str, InputError | str]  # pictures that will not be used, and why
    steps_per_epoch: int
    filled: int  # places of an epoch that are taken by samples used before

    @property
    def total_memory(self) -> float:
        return sum(self.memory.values())

    @property
    def seconds(self) -> float | None:
        return None if self.seconds_per_step is None else self.seconds_per_step * self.steps


def plan_run(
    recipe: Any, *, devices: int = 1, images_per_second: float | None = None, device_flops: float | None = None
) -> Plan:
    """The plan of `recipe` on `devices` equal ones.

    `images_per_second`: of all devices together, as it was measured; or `device_flops`: what one device does in a
    second. Without either there is no time. `InputError` for kinds of recipes that train neither a UNet nor a first
    stage.
    """
    planned = hasattr(recipe, "stage") or hasattr(recipe, "adapter")
    require(planned, "kind", getattr(recipe, "kind", ""), "one of a UNet or a first stage, others cannot be planned")
    loop: LoopConfig = recipe.loop
    require(loop.batch_size % devices == 0, "loop.batch_size", loop.batch_size, f"a multiple of {devices}, the devices")
    reader = open_reader(recipe.data, recipe.buckets, loop)
    size = max(reader.buckets, key=lambda s: s.height * s.width)
    half = loop.precision != "fp32"
    kind = torch.bfloat16 if half else torch.float32
    work = (_stage_work if hasattr(recipe, "stage") else _model_work)(recipe, size, loop.batch_size // devices, kind)
    divided = devices if loop.data_parallel == "fsdp" else 1

    def per_device(parameters: Sequence[nn.Parameter]) -> float:
        sharded = {p for m in work.network.modules() if isinstance(m, NETWORKS) for p in m.parameters()}
        return sum(p.numel() / (divided if p in sharded else 1) for p in parameters)

    everything, beside = list(work.network.parameters()), work.beside
    student, critics = per_device(work.learns), beside.critics / divided
    own = student + critics
    memory = {
        "weights": 4 * (per_device(everything) + critics) + beside.features,
        "gradients": 4 * own,
        "optimizer": OPTIMIZER_BYTES[loop.optimizer] * own,
        "running mean": 4 * student * (1 + len(loop.ema_lengths) + beside.means),
        "activations": work.taken.kept(checkpointing=loop.gradient_checkpointing) + beside.activations,
    }
    if beside.teacher:
        memory["teacher"] = beside.teacher / divided
    if half:
        memory["weights in bf16"] = 2 * (sum(p.numel() for p in work.learns) + beside.critics)
    again = work.taken.forward_flops if loop.gradient_checkpointing else 0.0
    flops = (work.taken.flops + again + work.encoding + beside.flops) * devices * loop.grad_accumulation
    seconds = None
    if images_per_second is not None:
        seconds = loop.step_size / images_per_second
    elif device_flops is not None:
        seconds = flops / device_flops / devices
    learning = sum(p.numel() for p in work.learns) + beside.critics
    return Plan(
        sum(p.numel() for p in everything) + beside.critics, learning, memory, flops, seconds, loop.steps,
        loop.step_size, {s: len(members) for s, members in reader.buckets.items()}, dict(reader.unreadable),
        reader.order.steps_per_epoch, reader.order.filled,
    )  # fmt: skip


@dataclass(frozen=True)
class _Work:
    """What a micro-batch of one device takes. `network` is on "meta"."""

    network: nn.Module
    learns: list[nn.Parameter]
    taken: Activations
    encoding: float = 0.0  # FLOPs of pictures through a first stage that does not learn
    beside: Beside = ALONE


def _stage_work(recipe: AutoencoderRecipe, size: Size, rows: int, kind: torch.dtype) -> _Work:
    stage = Autoencoder(recipe.stage).to("meta")
    images = torch.empty(rows, 3, size.height, size.width, device="meta", dtype=kind)

    def run() -> Tensor:
        mean = stage.moments(images).chunk(2, dim=1)[0] if stage.quantizer is None else stage.moments(images)
        return stage.decode_unquantized(mean)

    still = ("encoder", "quant") if recipe.decoder_only else ()
    learns = [p for n, p in stage.named_parameters() if not n.startswith(still)]
    return _Work(stage, learns, measured_activations(stage, run, kind))


def _model_work(recipe: Any, size: Size, rows: int, kind: torch.dtype) -> _Work:
    model = build(_system(recipe), "meta")
    u, f = model.system.unet, model.autoencoder.config.factor
    latents = torch.empty(rows, u.in_channels, size.height // f, size.width // f, device="meta", dtype=kind)
    tokens = None if u.context_dim is None else torch.empty(rows, 77, u.context_dim, device="meta", dtype=kind)
    vector = None
    if u.vector == "linear":
        vector = torch.empty(rows, u.vector_dim, device="meta", dtype=kind)
    elif u.vector == "table":
        vector = torch.empty(rows, dtype=torch.long, device="meta")
    t = torch.empty(rows, dtype=torch.long, device="meta")

    def run(unet: nn.Module, x: Tensor) -> Tensor:
        return unet(x, t, tokens, vector)

    model.autoencoder.requires_grad_(False)
    distilled = isinstance(recipe, DistillationRecipe)
    if distilled:
        model.conditioner.requires_grad_(False)
    if getattr(recipe, "text_cache", None) is not None:
        del model.conditioner.embedders["caption"]  # it does not stay on the device
    learns = [p for p in [*model.unet.parameters(), *model.conditioner.parameters()] if p.requires_grad]
    if (adapter := recipe.adapter) is not None:
        model.requires_grad_(False)
        fresh = attach_trained(model, replace(adapter, initial=None))
        learns = [p for a in fresh.values() for p in a.parameters() if p.requires_grad]
    taken = measured_activations(model.unet, lambda: run(model.unet, latents), kind)
    encoding = 0.0
    if recipe.latent_cache is None:
        images = torch.empty(rows, 3, size.height, size.width, device="meta", dtype=kind)
        with in_precision(model.autoencoder, kind), torch.no_grad(), counted() as done:
            model.autoencoder.moments(images)
        encoding = done.flops(1.0)
    beside = beside_student(recipe, model, latents, run, size, taken) if distilled else ALONE
    return _Work(model, learns, taken, encoding, beside)


def _system(recipe: Any) -> System:
    """What the recipe's model is trained as."""
    named = getattr(recipe, "system", None)
    found = find_system(named) if named is not None else system_of(recipe.model)
    if found is None and recipe.model in SYSTEMS:  # no weights are needed
        found = SYSTEMS[recipe.model]
    return found or load_checkpoint(recipe.model, torch.float32, "cpu").model.system


def plan_text(plan: Plan, *, devices: int, memory: float | None, price: float | None) -> str:
    """The plan in words. `memory`: bytes of a device; `price`: of a device for an hour."""
    lines = [
        f"parameters      {plan.parameters / 1e6:,.1f} million, {plan.trained / 1e6:,.1f} million of them learn",
        f"memory          {_gib(plan.total_memory)} on each device, at the largest size",
        *(f"  {part:18}{_gib(size)}" for part, size in plan.memory.items()),
    ]
    if memory is not None:
        verdict = (
            "fits"
            if plan.total_memory <= 0.9 * memory
            else "fits barely"
            if plan.total_memory <= memory
            else "DOES NOT FIT"
        )
        lines.append(f"  {verdict} in {_gib(memory)}")
    lines.append(
        f"work            {plan.flops / 1e12:,.3g} TFLOP a step of {plan.step_size} pictures, all devices together"
    )
    lines += [
        f"data            {sum(plan.buckets.values())} pictures, {len(plan.unreadable)} left out",
        f"  an epoch is {plan.steps_per_epoch} steps, {plan.filled} of its places filled by pictures used before",
        f"  the run is {plan.steps / plan.steps_per_epoch:.3g} epochs",
    ]
    by_count = sorted(plan.buckets.items(), key=lambda item: -item[1])
    lines += [f"  {size!s:18}{count}" for size, count in by_count[:40]]
    lines += [f"  left out: {name}: {why}" for name, why in list(plan.unreadable.items())[:20]]
    if plan.seconds is None:
        lines.append("time            unknown: give --rate, pictures a second as measured, or --tflops of a device")
    else:
        hours = plan.seconds / 3600
        lines.append(f"time            {hours:,.2f} h for {plan.steps} steps, {hours * devices:,.1f} device-hours")
        if price is not None:
            lines.append(f"cost            {hours * devices * price:,.2f}")
    return "\n".join(lines)


def _gib(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB"

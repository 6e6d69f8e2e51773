"""The processes of a run: one, or those that torchrun or SLURM started. Each takes its share of every step."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from darkroom.errors import InputError

__all__ = ["World", "open_world"]

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes: the log, checkpoints, samples, the export."""
        return self.rank == 0

    def device(self, device: str) -> str:
        """The device of this process where the recipe says `device`: each has a GPU of its own."""
        return f"cuda:{self.local_rank}" if device == "cuda" and self.size > 1 else device

    def mesh(self) -> DeviceMesh:
        """All processes in a row, for sharding."""
        return _mesh("cuda" if dist.get_backend() == "nccl" else "cpu", self.size)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes; a parameter that none uses keeps none.

        Those of sharded parameters are added up in the backward pass.
        """
        if self.size == 1:
            return
        for p in parameters:
            if p.requires_grad and not isinstance(p, DTensor):
                if p.grad is None:  # unused here, perhaps not elsewhere
                    p.grad = torch.zeros_like(p)
                dist.all_reduce(p.grad)

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` added up over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_numbers(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Each number added up over the processes that have it."""
        if self.size == 1:
            return dict(numbers)
        found: list[Mapping[str, float]] = [{}] * self.size
        dist.all_gather_object(found, dict(numbers))
        names = dict.fromkeys(name for one in found for name in one)
        return {name: sum(one.get(name, 0.0) for one in found) for name in names}

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, those of the first one first."""
        if self.size == 1:
            return list(items)
        found: list[Sequence[T]] = [()] * self.size
        dist.all_gather_object(found, list(items))
        return [item for one in found for item in one]

    def decided(self, decide: Callable[[], T]) -> T:
        """What the first process finds, on all of them; its `InputError` too."""
        if self.size == 1:
            return decide()
        found: list[Any] = [None, None]
        if self.first:
            try:
                found[0] = decide()
            except InputError as error:
                found[1] = error
        dist.broadcast_object_list(found)
        if found[1] is not None:
            raise found[1]
        return found[0]

    def together(self, work: Callable[[], T]) -> list[T]:
        """What `work` gives in each process; if it is an `InputError` in one, that is raised in all."""
        if self.size == 1:
            return [work()]
        result, error = None, None
        try:
            result = work()
        except InputError as failed:
            error = failed
        found = self.gather([(result, error)])
        for _, failed in found:
            if failed is not None:
                raise failed
        return [one for one, _ in found]  # type: ignore[misc]

    def any(self, here: bool) -> bool:
        """Whether it holds in some process."""
        return (self.size > 1 and self.sum_numbers({"here": float(here)})["here"] > 0) or here

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.size > 1:
            dist.barrier()


@functools.lru_cache(maxsize=1)
def _mesh(kind: str, size: int) -> DeviceMesh:
    return init_device_mesh(kind, (size,))


@contextmanager
def open_world(device: str) -> Iterator[World]:
    """The world that the environment describes (RANK, WORLD_SIZE …, or SLURM's), joined while the block runs."""
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID"))
    size = os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS"))
    local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
    if rank is None or size is None or size == "1":
        yield World()
        return
    if not (rank.isdecimal() and size.isdecimal() and local.isdecimal() and int(rank) < int(size)):
        raise InputError(
            f"RANK is {rank!r}, WORLD_SIZE {size!r}, LOCAL_RANK {local!r}: numbers from a launcher expected"
        )
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise InputError(f"{name} is not set, which a run on {size} processes needs; torchrun sets it")
    world = World(int(rank), int(size), int(local))
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", rank=world.rank, world_size=world.size)
    try:
        yield world
    finally:
        dist.destroy_process_group()

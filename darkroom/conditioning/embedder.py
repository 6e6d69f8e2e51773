"""What all embedders have in common, and what a system says of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Generator, Tensor, nn

from darkroom.conditioning.conditioning import Conditioning
from darkroom.types import Request, Size

__all__ = ["Embedder", "EmbedderConfig", "Slot"]

Slot = Literal["tokens", "channels", "vector"]


class EmbedderConfig:
    """One embedder of a system as data: each is a frozen dataclass, told from the others by its `kind`.

    What can be known of an embedder before any network is built is said here.
    """

    kind: str
    key: str  # of its input among those of a picture
    reads: tuple[str, ...]  # the entries of `Request.inputs` and the fields of `Request` that it looks at
    required: str = ""  # what a request must give, in words; empty: it may be absent
    takes_image: bool = False  # the request's image is for this embedder; drawing starts from it only if asked to
    tells_layout: bool = False  # says enough of the image that, at full strength, drawing starts from noise alone
    reads_mask: bool = False  # the network sees the known pixels: they need not be put back at each step
    enlarges: bool = False  # the input is the whole picture, smaller
    drop_rate: float = 0.0  # share of training samples whose input is made absent
    names: tuple[str, ...] = ()  # of the input's classes by number, for who chooses one, where they are known

    def is_given(self, request: Request) -> bool:
        """Whether `request` holds what is required."""
        return request.inputs.get(self.key) is not None

    def picture_size(self, request: Request, factor: int) -> Size | None:
        """The picture's size where the input decides it; `factor`: f of the first stage."""
        return None


class Embedder(nn.Module):
    """Turns the input `key` into what fills `slot`.

    `read` takes it out of a request; `prepare` does what can be cached (tokenize, rasterize, run a frozen network
    once); `forward` does the rest. An absent input is `None`; what it means is the embedder's matter.
    """

    slot: ClassVar[Slot]
    guided: ClassVar[bool] = False  # whether the unconditional branch of guidance goes without this input
    prepares_on_device: ClassVar[bool] = False  # whether `prepare` runs a frozen network
    config: EmbedderConfig

    def __init__(self, config: EmbedderConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def key(self) -> str:
        return self.config.key

    def read(self, request: Request, size: Size, generator: Generator) -> Any:
        """The input of the picture of `size` that `request` asks for, `None` if absent; noise is `generator`'s.

        `InputError` for what cannot be one. `prepare` takes what this gives.
        """
        return request.inputs.get(self.key)

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """Inputs of B pictures (`None` = absent) to one tensor (B, …)."""
        raise NotImplementedError

    def forward(self, prepared: Tensor) -> Tensor | Conditioning:
        """The slot's tensor (B, …), or several slots at once."""
        raise NotImplementedError

    def unconditional(self, value: Any) -> Any:
        """What the unconditional branch reads where the conditional branch reads `value`."""
        return None if self.guided else value

    def look_in(self, folder: Path) -> None:
        """Look for the files that are needed besides weights in the checkpoint's `folder` first."""

    def files(self) -> list[Path]:
        """Those of the files in the checkpoint's folder that are needed."""
        return []

    def use_first_stage(self, encode: Callable[[Tensor], Tensor]) -> None:
        """Be told the system's way from images (B, 3, H, W) to scaled latents."""

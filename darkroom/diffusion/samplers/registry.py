"""The table of samplers. An entry holds all that is particular to one: names, options, noise, levels, first latent."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from darkroom.config import from_dict
from darkroom.errors import InputError
from darkroom.names import sampler_spelling
from darkroom.registry import Registry
from darkroom.types import Denoise, NoiseSource, Sampler, Step

__all__ = ["SAMPLERS", "SamplerEntry", "add_sampler", "options_of", "with_options"]


@dataclass(frozen=True)
class SamplerEntry:
    """A sampler and its traits.

    `sample(denoise, x, sigmas, noise)` yields a `Step` per step; where there are `options`, it takes an instance of
    them as its last argument.
    """

    name: str  # A1111's label where it has one
    sample: Callable[..., Iterator[Step]]
    aliases: tuple[str, ...] = ()  # what other tools call it, beyond spellings that `sampler_spelling` makes equal
    options: type[Any] | None = None  # a frozen dataclass of defaults that checks itself
    noise: Literal["fresh", "brownian"] = "fresh"  # "brownian": of a path, so that more steps refine one picture
    schedule: str = "linspace"  # what "automatic" means, as in A1111
    starts_at_sigma: tuple[str, ...] = ("a1111",)  # tools whose first latent is sigma · noise, not sqrt(1 + sigma²) · …
    discards_penultimate: tuple[str, ...] = ()  # tools that leave the lowest level of its schedules out
    diffusers: str | None = None  # the class there that steps alike, or the nearest
    diffusers_leaves_out: bool = False  # that class spaces n + 1 timesteps and leaves the lowest out
    needs_uncond: bool = False  # asks a `GuidedDenoise` for the unconditional estimate, at any guidance scale

    def __call__(self, denoise: Denoise, x: Any, sigmas: Any, noise: NoiseSource) -> Iterator[Step]:
        """Sample with the default options."""
        return self.with_options({})(denoise, x, sigmas, noise)

    def with_options(self, values: Mapping[str, object]) -> Sampler:
        """The sampler with `values` set; `InputError` for an option that it does not have or that cannot be."""
        where = f"the sampler {self.name}"
        if self.options is None:
            if values:
                raise InputError(f"{where} has no options, {', '.join(values)} cannot be set")
            return self.sample
        options = from_dict(self.options, dict(values), where)
        return functools.partial(_with_last, self.sample, options)


def _with_last(
    sample: Callable[..., Iterator[Step]], options: object, denoise: Denoise, x: Any, sigmas: Any, noise: NoiseSource
) -> Iterator[Step]:
    return sample(denoise, x, sigmas, noise, options)


SAMPLERS: Registry[SamplerEntry] = Registry("sampler", sampler_spelling)


def add_sampler(entry: SamplerEntry) -> SamplerEntry:
    """Put `entry` into the table under its name and its aliases."""
    return SAMPLERS.add(entry.name, entry, *entry.aliases)


def options_of(name: str) -> dict[str, object]:
    """The options of the sampler `name` and their defaults."""
    options = SAMPLERS[name].options
    return {} if options is None else asdict(options())


def with_options(name: str, values: Mapping[str, object]) -> Sampler:
    """The sampler `name` with the options `values`; `InputError` for what it does not have or cannot be."""
    return SAMPLERS[name].with_options(values)

"""`darkroom systems`: the catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["systems"]


def systems(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One system, with the words that it knows.")
    ] = None,
) -> None:
    """List every system and first stage with its size, its latent, what it reads and its defaults."""
    if name is not None:
        _show_one(name)
        return
    from rich.console import Console
    from rich.table import Table

    from darkroom.systems import FIRST_STAGES, SYSTEMS
    from darkroom.systems.counts import parameters

    table = Table("system", "what", "denoiser", "first stage", "reads (encoder)", "latent", "defaults")
    for system in SYSTEMS.values():
        d, f = system.defaults, system.autoencoder.factor
        reads = []
        for config in system.embedders:
            count = parameters(config)
            reads.append(f"{config.key} ({_millions(count)})" if count else config.key)
        table.add_row(
            _names(system.name, system.layouts),
            system.title,
            _millions(parameters(system.unet)),
            f"{_millions(parameters(system.autoencoder))}, f = {f}",
            ", ".join(reads) or "nothing",
            f"{d.height // f}×{d.width // f}×{system.autoencoder.latent_channels}",
            f"{d.width}x{d.height}, {d.steps} steps, {d.sampler}, {d.schedule}, guidance {d.guidance_scale:g}",
        )
    stages = Table("first stage", "what", "parameters", "f", "channels", "codes")
    for stage in FIRST_STAGES.values():
        c = stage.autoencoder
        stages.add_row(
            _names(stage.name, (stage.layout,)),
            stage.title,
            _millions(parameters(c)),
            str(c.factor),
            str(c.latent_channels),
            str(c.bottleneck.codes) if c.bottleneck.kind == "vq" else "KL",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)  # a file or a pipe has no width; rows stay on one line
    console.print(table)
    console.print(stages)


def _show_one(name: str) -> None:
    """One system in full."""
    import textwrap

    from darkroom.requests.remarks import known_words
    from darkroom.systems import SYSTEMS

    system = SYSTEMS[name]
    d, f = system.defaults, system.autoencoder.factor
    reads = dict.fromkeys(name for e in system.embedders for name in e.reads)
    print(f"{system.name}: {system.title}")
    print(f"size       {d.width}x{d.height}; far larger pictures by --hires")
    print(f"latent     {d.height // f}x{d.width // f}x{system.autoencoder.latent_channels}")
    print(f"sampling   {d.steps} steps, {d.sampler}, {d.schedule}, guidance scale {d.guidance_scale:g}")
    print(f"reads      {', '.join(reads) or 'nothing'}")
    if words := known_words(system):
        listed = ", ".join(word for word in words if len(word) > 1)
        print(textwrap.fill(f"words      {listed}", 110, subsequent_indent=" " * 11))


def _names(name: str, layouts: tuple[str, ...]) -> str:
    """The name, and below it those of the published layouts where they are others."""
    return "\n".join([name, *(f"({layout})" for layout in layouts if layout != name)])


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 100_000 else str(count)

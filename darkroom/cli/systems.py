"""`darkroom systems`: the catalogue."""

from __future__ import annotations

__all__ = ["systems"]


def systems() -> None:
    """List every system and first stage with its size, its latent, what it reads and its defaults."""
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


def _names(name: str, layouts: tuple[str, ...]) -> str:
    """The name, and below it those of the published layouts where they are others."""
    return "\n".join([name, *(f"({layout})" for layout in layouts if layout != name)])


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 100_000 else str(count)

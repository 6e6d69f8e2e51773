"""`darkroom systems`: the catalogue."""

from __future__ import annotations

__all__ = ["systems"]


def systems() -> None:
    """List every system with its size, its latent, its conditioning and its defaults."""
    from rich.console import Console
    from rich.table import Table

    from darkroom.systems import SYSTEMS
    from darkroom.systems.build import build

    table = Table("system", "denoiser", "first stage", "latent", "reads", "defaults")
    for system in SYSTEMS.values():
        model, d = build(system, "meta"), system.defaults
        f = system.autoencoder.factor
        table.add_row(
            system.name,
            f"{_count(model.unet)} M",
            f"{_count(model.autoencoder)} M, f = {f}",
            f"{d.height // f} × {d.width // f} × {system.autoencoder.latent_channels}",
            ", ".join(model.conditioner.embedders),
            f"{d.width}x{d.height}, {d.steps} steps, {d.sampler}, {d.schedule}, guidance {d.guidance:g}",
        )
    Console().print(table)


def _count(module: object) -> str:
    parameters = module.parameters()  # type: ignore[attr-defined]
    return f"{sum(p.numel() for p in parameters) / 1e6:.1f}"

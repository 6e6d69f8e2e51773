"""`names.json`, `known-checkpoints.json` and `recipe-keys.txt`, made of the tables themselves.

`python -m darkroom.cli.names` writes them.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import darkroom
from darkroom.cli.known_checkpoints import known_checkpoints
from darkroom.conditioning.emphasis import EMPHASES
from darkroom.diffusion.prediction import OTHER_WORDS
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.diffusion.seeds import SEED_MODES
from darkroom.diffusion.sigma_schedules import SCHEDULES
from darkroom.prompts.syntaxes import SYNTAXES
from darkroom.requests.plan import side_step
from darkroom.requests.remarks import known_words
from darkroom.systems import FIRST_STAGES, SYSTEMS, FirstStage, System
from darkroom.systems.counts import parameters
from darkroom.systems.system import Defaults
from darkroom.training.recipe_keys import all_keys_text

__all__ = ["named"]


def named() -> dict[str, Any]:
    """What the file is to hold: the names with their aliases, and what `darkroom systems` shows."""
    tables = (SAMPLERS, SCHEDULES, SEED_MODES, SYNTAXES, EMPHASES, SYSTEMS, FIRST_STAGES)
    return {
        "names": {
            **{table.sort: {name: table.aliases(name) for name in table} for table in tables},
            "prediction": {name: list(words) for name, words in OTHER_WORDS.items()},
        },
        "systems": [_row(system) for system in SYSTEMS.values()],
        "first stages": [_stage_row(stage) for stage in FIRST_STAGES.values()],
        "about": {name: _about(system) for name, system in SYSTEMS.items()},
        "limits": {name: {"side": side_step(s), "steps": s.schedule.steps} for name, s in SYSTEMS.items()},
    }


def _row(system: System) -> list[str]:
    d, f = system.defaults, system.autoencoder.factor
    reads = []
    for config in system.embedders:
        count = parameters(config)
        reads.append(f"{config.key} ({_millions(count)})" if count else config.key)
    return [
        _names(system.name, system.layouts),
        system.title,
        _millions(parameters(system.unet)),
        f"{_millions(parameters(system.autoencoder))}, f = {f}",
        ", ".join(reads) or "nothing",
        f"{d.height // f}×{d.width // f}×{system.autoencoder.latent_channels}",
        f"{d.width}x{d.height}, {d.steps} steps, {d.sampler}, {d.schedule}, guidance {_guided(d)}",
    ]


def _stage_row(stage: FirstStage) -> list[str]:
    c = stage.autoencoder
    return [
        _names(stage.name, (stage.layout,)),
        stage.title,
        _millions(parameters(c)),
        str(c.factor),
        str(c.latent_channels),
        str(c.bottleneck.codes) if c.bottleneck.kind == "vq" else "KL",
    ]


def _guided(d: Defaults) -> str:
    between = d.guidance_interval
    return f"{d.guidance_scale:g}" + (f" from {between[0]:g} to {between[1]:g} of the steps" if between else "")


def _about(system: System) -> str:
    """One system in full."""
    d, f = system.defaults, system.autoencoder.factor
    reads = dict.fromkeys(name for e in system.embedders for name in e.reads)
    lines = [
        f"{system.name}: {system.title}",
        f"size       {d.width}x{d.height}; far larger pictures by --hires",
        f"latent     {d.height // f}x{d.width // f}x{system.autoencoder.latent_channels}",
        f"sampling   {d.steps} steps, {d.sampler}, {d.schedule}, guidance scale {_guided(d)}",
        f"reads      {', '.join(reads) or 'nothing'}",
    ]
    if words := known_words(system):
        listed = ", ".join(word for word in words if len(word) > 1)
        lines.append(textwrap.fill(f"words      {listed}", 110, subsequent_indent=" " * 11))
    return "\n".join(lines)


def _names(name: str, layouts: tuple[str, ...]) -> str:
    """The name, and below it those of the published layouts where they are others."""
    return "\n".join([name, *(f"({layout})" for layout in layouts if layout != name)])


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 100_000 else str(count)


if __name__ == "__main__":
    for file, content in (("names", named()), ("known-checkpoints", known_checkpoints())):
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (Path(darkroom.__file__).parent / f"{file}.json").write_text(text + "\n", encoding="utf-8")
    (Path(darkroom.__file__).parent / "recipe-keys.txt").write_text(all_keys_text(), encoding="utf-8")

"""The report of a run: one HTML file that holds its curves, samples, ledger, and the plan beside what happened."""

from __future__ import annotations

import base64
import html
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from darkroom.config import to_dict
from darkroom.errors import InputError
from darkroom.input_file import read_lines
from darkroom.json_file import read_json
from darkroom.training.log import WAITING
from darkroom.training.plan import Plan
from darkroom.training.validation import MEASURE
from darkroom.whole_file import made_folder, whole_file

__all__ = ["PLAN", "write_plan", "write_report"]

PLAN = "plan.json"
WIDTH, HEIGHT, MARGIN = 460, 200, 58  # of a chart, in pixels
POINTS = 400  # of a curve at most; more are averaged
MOST_SAMPLES = 8  # pictures over time
SKIPPED = ("step", "seconds")  # numbers of the log that are no curve

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { font-weight: 600; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; } figcaption { font-size: .9em; color: #555; }
img { max-width: 100%; } svg text { font: 11px system-ui, sans-serif; fill: #555; }
@media (prefers-color-scheme: dark) {
body { background: #191919; color: #ddd; }
svg text, figcaption { fill: #aaa; color: #aaa; }
}
"""


def write_plan(plan: Plan, folder: Path) -> Path:
    """Keep what the report will need of `plan` in the folder of its run, made if need be."""
    made_folder(folder)
    told = {
        "parameters": plan.parameters, "trained": plan.trained, "memory": plan.memory, "flops": plan.flops,
        "steps": plan.steps, "step_size": plan.step_size, "seconds": plan.seconds,
    }  # fmt: skip
    with whole_file(folder / PLAN) as file:
        file.write(json.dumps(to_dict(told), indent=1).encode())
    return folder / PLAN


def write_report(folder: Path) -> Path:
    """`folder`/report.html, of what the run in `folder` has written so far. `InputError` if that is nothing."""
    lines = _json_lines(folder / "log.jsonl")
    if not lines:
        raise InputError(f"{folder} holds no log of a run: log.jsonl is missing or empty")
    recipe = _json(folder / "recipe.json")
    parts = [
        f"<h1>{html.escape(folder.absolute().name)}</h1>",
        _table(_happened(lines, recipe, _json(folder / PLAN))),
        "<h2>Curves</h2>",
        *(_figure(name, curve(*_points(lines, name))) for name in _names(lines)),
        *_samples(folder / "samples"),
        *_ledger(folder / "ledger.jsonl"),
        "<h2>Recipe</h2>",
        f"<pre>{html.escape(json.dumps(recipe, indent=1, ensure_ascii=False))}</pre>",
    ]
    title = html.escape(folder.absolute().name)
    head = f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    path = folder / "report.html"
    with whole_file(path) as file:
        file.write("\n".join([head, *parts, ""]).encode())
    return path


def curve(steps: Sequence[float], values: Sequence[float]) -> str:
    """An SVG chart of `values` over `steps`; logarithmic where they are positive and span a factor of 20 or more."""
    x, y = _thinned(np.asarray(steps, float)), _thinned(np.asarray(values, float))
    logarithmic = bool((y > 0).all() and y.max() >= 20 * y.min())
    scaled = np.log10(y) if logarithmic else y
    low, high = float(scaled.min()), float(scaled.max())
    spread = high - low or 1.0
    across = MARGIN + (x - x[0]) / ((x[-1] - x[0]) or 1.0) * (WIDTH - MARGIN - 8)
    down = HEIGHT - 24 - (scaled - low) / spread * (HEIGHT - 36)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down))
    marks = []
    for share in (0.0, 0.5, 1.0):
        level = low + share * spread
        at = HEIGHT - 24 - share * (HEIGHT - 36)
        told = f"{10**level if logarithmic else level:.3g}"
        marks.append(f'<line x1="{MARGIN}" x2="{WIDTH - 8}" y1="{at:.1f}" y2="{at:.1f}" stroke="#8884"/>')
        marks.append(f'<text x="{MARGIN - 4}" y="{at + 4:.1f}" text-anchor="end">{told}</text>')
    for at, step, anchor in ((MARGIN, x[0], "start"), (WIDTH - 8, x[-1], "end")):
        marks.append(f'<text x="{at}" y="{HEIGHT - 8}" text-anchor="{anchor}">{step:.0f}</text>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">{"".join(marks)}'
        f'<polyline points="{line}" fill="none" stroke="#2a6fdb" stroke-width="1.5"/></svg>'
    )


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most `POINTS` means of neighbors."""
    return np.array([part.mean() for part in np.array_split(values, min(POINTS, len(values)))])


def _names(lines: Sequence[Mapping[str, float]]) -> list[str]:
    """Of all numbers in the log, losses first."""
    names = dict.fromkeys(n for line in lines for n in line if n not in SKIPPED)
    return sorted(names, key=lambda name: not name.startswith(("loss/", MEASURE)))


def _points(lines: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    found = [(line["step"], line[name]) for line in lines if name in line]
    return [s for s, _ in found], [v for _, v in found]


def _happened(lines: Sequence[Mapping[str, float]], recipe: Any, plan: Any) -> list[tuple[str, str, str]]:
    """What was planned and what happened, by name."""
    last, loop = lines[-1], (recipe or {}).get("loop", {})
    pictures = int(last["step"]) * int(loop.get("batch_size", 0)) * int(loop.get("grad_accumulation", 1))
    seconds = max(float(last["seconds"]), 1e-9)
    rows = [
        ("steps", str(loop.get("steps", "")), f"{last['step']:.0f}"),
        ("hours", "", f"{seconds / 3600:.3g}"),
        ("pictures a second", "", f"{pictures / seconds:.3g}"),
    ]
    if waits := [line[WAITING] for line in lines if WAITING in line]:
        rows.append(("of the time waiting for data", "", f"{100 * sum(waits) / len(waits):.2g} %"))
    if measured := [(line[MEASURE], line["step"]) for line in lines if MEASURE in line]:
        loss, step = min(measured)
        rows.append(("best validation loss", "", f"{loss:.4g} at step {step:.0f}"))
    if isinstance(plan, dict):
        planned = plan["seconds"] if plan.get("seconds") else None
        rate = plan["steps"] * plan["step_size"] / planned if planned else None
        rows[1] = ("hours", f"{planned / 3600:.3g}" if planned else "", rows[1][2])
        rows[2] = ("pictures a second", f"{rate:.3g}" if rate else "", rows[2][2])
        work = plan["flops"] * last["step"] / seconds / 1e12
        rows.append(("TFLOP a second, all devices", "", f"{work:.3g}"))
        rows.append(("parameters, learning", f"{plan['trained'] / 1e6:.1f} million", ""))
        peak = max((line.get("memory/GiB", 0.0) for line in lines), default=0.0)
        total = sum(plan["memory"].values()) / 2**30
        rows.append(("memory of a device, GiB", f"{total:.2f}", f"{peak:.2f}" if peak else ""))
    return rows


def _table(rows: Sequence[tuple[str, str, str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr><th></th><th>planned</th><th>happened</th></tr>{body}</table>"


def _figure(caption: str, content: str) -> str:
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _samples(folder: Path) -> list[str]:
    """The first and the last picture, and some evenly between."""
    found = sorted(folder.glob("*.png"))
    if not found:
        return []
    chosen = [found[i] for i in dict.fromkeys(np.linspace(0, len(found) - 1, MOST_SAMPLES).round().astype(int))]
    shown = []
    for path in chosen:
        with Image.open(path) as picture, io.BytesIO() as file:
            picture.convert("RGB").save(file, format="JPEG", quality=88)
            data = base64.b64encode(file.getvalue()).decode()
        shown.append(_figure(f"step {int(path.stem)}", f'<img src="data:image/jpeg;base64,{data}" alt="samples">'))
    return ["<h2>Samples</h2>", *shown]


def _ledger(path: Path) -> list[str]:
    """What each epoch used, pictures that could not be read, how often pictures were used."""
    lines = _json_lines(path)
    if not lines:
        return []
    used = Counter(line["name"] for line in lines if "name" in line)
    told = [line["summary"] for line in lines if "summary" in line]
    told += list(dict.fromkeys(f"could not be read: {line['instead_of']}" for line in lines if "instead_of" in line))
    times = Counter(used.values())
    told.append("so far " + ", ".join(f"{n} pictures {often}×" for often, n in sorted(times.items())))
    return ["<h2>Ledger</h2>", f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in told)}</ul>"]


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except InputError:
        return None


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole: a run may be writing."""
    found = []
    try:
        lines = read_lines(path)
    except InputError:
        return []
    for line in lines:
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return [line for line in found if isinstance(line, dict)]

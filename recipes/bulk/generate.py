"""Pictures in bulk on Ray: one for each line of a file, on as many processes as the cluster has room for.

    pip install 'darkroom-diffusion[ray]'
    python recipes/bulk/generate.py prompts.txt out --model picturebook --seed 1 --processes 2

A line is a prompt, or a JSON object of settings ({"prompt": "a red house", "steps": 8}). Line n becomes out/00000n.png,
with the seed `--seed` + n unless it says one; the folder is to be one that every machine sees. The same command again
draws what is missing. Lines that cannot be drawn are told at the end, and the others are drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from darkroom.errors import InputError


def missing(prompts: Path, out: Path, seed: int) -> Iterator[dict[str, Any]]:
    """The lines without a picture, as rows of (number, path, settings in JSON)."""
    for number, line in enumerate(prompts.read_text(encoding="utf-8").splitlines(), 1):
        path = out / f"{number:06d}.png"
        if not line.strip() or path.exists():
            continue
        try:
            said = json.loads(line) if line.lstrip().startswith("{") else {"prompt": line}
        except ValueError as error:
            raise SystemExit(f"{prompts}, line {number}: no JSON: {error}") from None
        yield {"number": number, "path": str(path), "settings": json.dumps({"seed": seed + number, **said})}


class Drawing:
    """One process: a model, and what it makes of batches of rows."""

    def __init__(self, model: str, device: str) -> None:
        from darkroom.library import load

        self.model = load(model, device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = zip(batch["path"], batch["settings"])
        return {"number": batch["number"], "error": [self.error(Path(path), json.loads(said)) for path, said in rows]}

    def error(self, path: Path, settings: dict[str, Any]) -> str:
        """Draw and write one picture; what is wrong with its settings, or nothing."""
        try:
            self.model.draw(**settings).save(path)
        except InputError as error:
            return str(error)
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="picturebook")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--cpus", type=float, default=1, help="of a process")
    parser.add_argument("--gpus", type=float, default=0, help="of a process")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    rows = list(missing(a.prompts, a.out.resolve(), a.seed))
    print(f"{len(rows)} pictures to draw", flush=True)
    if not rows:
        return

    import ray.data

    drawn = ray.data.from_items(rows, override_num_blocks=max(a.processes, len(rows) // 32)).map_batches(
        Drawing,
        fn_constructor_args=(a.model, a.device),
        batch_size=8,
        compute=ray.data.ActorPoolStrategy(size=a.processes),
        num_cpus=a.cpus,
        num_gpus=a.gpus,
    )
    wrong = [row for row in drawn.iter_rows() if row["error"]]
    for row in sorted(wrong, key=lambda row: row["number"]):
        print(f"line {row['number']}: {row['error']}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

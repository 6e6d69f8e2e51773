"""Loading a checkpoint of random weights, each time in a fresh process: `python -m benchmarks.loading`.

Beside reading the same bytes, and beside Diffusers reading its own layout of the same weights. Memory is the peak of
what was resident beyond what the imports took, as a share of the weights.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.measure import machine
from benchmarks.networks import randomise
from darkroom.checkpoints.convert import Content, write_diffusers, write_original
from darkroom.systems import SYSTEMS, System
from darkroom.systems.build import build

__all__ = ["CONTENDERS", "measure", "write_checkpoint"]

# What a fresh process runs: what to import, then what is measured. {file} and {folder} are the two layouts.
CONTENDERS: Mapping[str, tuple[str, str]] = {
    "reading the file": (
        "import torch",
        "f = open({file!r}, 'rb', buffering=0); b = bytearray(2**24)\nwhile f.readinto(b): pass",
    ),
    "darkroom, as stored": (
        "from darkroom.checkpoints.load import load_checkpoint",
        "m = load_checkpoint({file!r})",
    ),
    "darkroom, ready to compute": ("from darkroom.tasks.model import load_model", "m = load_model({file!r})"),
    "diffusers, as stored": (
        "import torch; from diffusers import AutoencoderKL, UNet2DConditionModel\n"
        "from transformers import CLIPTextModel",
        "k = dict(torch_dtype=torch.float16)\n"
        "m = [UNet2DConditionModel.from_pretrained({folder!r}, subfolder='unet', **k),"
        " AutoencoderKL.from_pretrained({folder!r}, subfolder='vae', **k),"
        " CLIPTextModel.from_pretrained({folder!r}, subfolder='text_encoder', **k)]",
    ),
}
PROGRAM = """
{imports}
import ctypes, time
status = lambda field: next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith(field + ':')) * 1024
ctypes.CDLL(None).malloc_trim(0)
open('/proc/self/clear_refs', 'w').write('5')
before, start = status('VmRSS'), time.perf_counter()
{work}
seconds = time.perf_counter() - start
print('result', seconds, status('VmHWM') - before)
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--system", default="sd-v1-5", choices=["sd-v1-5"])
    parser.add_argument("--rounds", type=int, default=5)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        size = write_checkpoint(SYSTEMS[a.system], Path(folder))
        found = measure(Path(folder), a.rounds)
    print(f"{machine(torch.device('cpu'))}; {a.system}, {size / 2**30:.2f} GiB in float16, {a.rounds} rounds\n")
    print("| who | seconds | times as long as reading | peak memory by the weights |\n|---|---:|---:|---:|")
    base = [seconds for seconds, _ in found["reading the file"]]
    for name, rows in found.items():
        ratios = sorted(seconds / b for (seconds, _), b in zip(rows, base))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        seconds, peak = statistics.median(s for s, _ in rows), max(p for _, p in rows)
        print(f"| {name} | {seconds:.2f} | {spread} | {peak / size:.2f} |")


def write_checkpoint(system: System, folder: Path) -> int:
    """`system` with random weights in float16 in both layouts; the bytes of the weights."""
    model = build(system, "meta").half().to_empty(device="cpu")
    randomise(model)
    content = Content.of_model(model)
    write_original(content, folder / "model.safetensors")
    write_diffusers(content, folder / "diffusers")
    return sum(p.numel() * p.itemsize for p in model.parameters())


def measure(folder: Path, rounds: int) -> dict[str, list[tuple[float, int]]]:
    """(seconds, peak bytes) of every contender, round by round, after one round that does not count."""
    places = {"file": str(folder / "model.safetensors"), "folder": str(folder / "diffusers")}
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in CONTENDERS}
    for index in range(rounds + 1):
        for name, (imports, work) in CONTENDERS.items():
            program = PROGRAM.format(imports=imports, work=work.format(**places))
            run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
            if run.returncode:
                raise RuntimeError(f"{name} failed: {run.stderr}")
            _, seconds, peak = next(line for line in run.stdout.splitlines() if line.startswith("result")).split()
            if index:
                found[name].append((float(seconds), int(peak)))
    return found


if __name__ == "__main__":
    main()

"""Work that begins with a fresh process: loading a checkpoint, the first step from it, a picture by the command."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.checkpoint import Checkpoint, write_checkpoint
from benchmarks.measure import Turn
from benchmarks.work import BASE, Contest, Settings, Work
from darkroom.checkpoints.diffusers_config import pipeline_class
from darkroom.nn.precision import fast_half
from darkroom.systems.system import System

__all__ = ["command", "load", "load_runs", "start", "start_runs"]

PROMPT = "a red house left of a yellow tree, at night"

# Before each program. Marks are timed where they arrive; the peak of resident memory is told at the end.
PRELUDE = """
import atexit, sys
def resident(field):
    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith(field + ':')) * 1024
def mark(name):
    print('mark', name, flush=True)
before = 0
atexit.register(lambda: print('peak', resident('VmHWM') - before, flush=True))
"""

# Between imports and work, where only the work is measured.
BEGIN = """
import ctypes
ctypes.CDLL(None).malloc_trim(0)
open('/proc/self/clear_refs', 'w').write('5')
before = resident('VmRSS')
"""

IMPORT_US = """
import torch
from darkroom.checkpoints.model import load_model
from darkroom.engine.pipeline import Pipeline
from darkroom.types import Request
"""
IMPORT_PEER = "import torch\nfrom diffusers import {pipeline}"
IMPORT_READER = "from darkroom.checkpoints.load import load_checkpoint"

LOAD_US = "model = load_model({file!r}, {device!r}, {ours})"
LOAD_PEER = """
pipeline = {pipeline}.from_single_file(
    {file!r}, config={config!r}, torch_dtype={dtype}, local_files_only=True
).to({device!r})
"""
LOAD_PEER_AS_STORED = """
{pipeline}.from_single_file({file!r}, config={config!r}, torch_dtype=torch.float16, local_files_only=True)
"""
LOAD_AS_STORED = "load_checkpoint({file!r})"
READ = """
with open({file!r}, 'rb', buffering=0) as file:
    chunk = bytearray(2**24)
    while file.readinto(chunk):
        pass
"""

STEP_US = """
request = Request({prompt!r}, width={side}, height={side}, steps=20, sampler='DDIM', schedule='leading')
next(Pipeline(model.model).run([request]))
mark('first step')
"""
STEP_PEER = """
pipeline.set_progress_bar_config(disable=True)
def stop(*_):
    mark('first step')
    sys.exit()
pipeline(
    {prompt!r}, width={side}, height={side}, num_inference_steps=20, guidance_scale={guidance},
    callback_on_step_end=stop
)
"""

COMMAND = """
from darkroom.cli import main
sys.argv = ['darkroom', 'generate', {prompt!r}, '--model', {model!r}, '--output', {folder!r}, '--device', {device!r}]
main()
"""


def load(system: System) -> Work:
    """Seconds and memory beyond what imports take, beside reading the bytes of the file."""

    def prepare(settings: Settings) -> Contest:
        return Contest(load_runs(write_checkpoint(system, settings.folder), system, settings))

    return Work(f"loading, {system.title}, one file in float16", prepare)


def load_runs(checkpoint: Checkpoint, system: System, settings: Settings) -> dict[str, Callable[[], Turn]]:
    programs = {
        "darkroom": (IMPORT_US, LOAD_US),
        BASE: (IMPORT_PEER, LOAD_PEER),
        "darkroom, as stored": (IMPORT_READER, LOAD_AS_STORED),
        "diffusers, as stored": (IMPORT_PEER, LOAD_PEER_AS_STORED),
        "reading the file": ("", READ),
    }
    facts = _facts(checkpoint, system, settings)

    def turn(imports: str, work: str) -> Turn:
        program = "\n".join((imports, BEGIN, "mark('imports')", work, "mark('load')")).format(**facts)
        told = _fresh(program)
        return Turn(told.parts["load"], told.peak)

    return {name: lambda parts=parts: turn(*parts) for name, parts in programs.items()}


def start(system: System, side: int) -> Work:
    """From the start of a process to the end of the first of 20 guided steps. Memory is all that is resident."""

    def prepare(settings: Settings) -> Contest:
        return Contest(start_runs(write_checkpoint(system, settings.folder), system, side, settings))

    return Work(f"process start to first step, {system.title}, {side} px", prepare)


def start_runs(checkpoint: Checkpoint, system: System, side: int, settings: Settings) -> dict[str, Callable[[], Turn]]:
    facts = {**_facts(checkpoint, system, settings), "side": side, "guidance": system.defaults.guidance_scale}
    programs = {"darkroom": (IMPORT_US, LOAD_US, STEP_US), BASE: (IMPORT_PEER, LOAD_PEER, STEP_PEER)}

    def turn(imports: str, work: str, step: str) -> Turn:
        told = _fresh("\n".join((imports, "mark('imports')", work, "mark('load')", step)).format(**facts))
        return Turn(sum(told.parts.values()), told.peak, told.parts)

    return {name: lambda parts=parts: turn(*parts) for name, parts in programs.items()}


def command(model: str = "picturebook") -> Work:
    """`darkroom generate` from the start of the process to the written file, and the split that it prints."""

    def prepare(settings: Settings) -> Contest:
        program = COMMAND.format(prompt=PROMPT, model=model, folder=str(settings.folder), device=str(settings.device))

        def turn() -> Turn:
            told = _fresh(program)
            seconds, _ = told.lines[-1]  # the picture's path
            found = re.search(r"1 picture in ([\d.]+) s: (.*)", told.complaints)
            assert found is not None, told.complaints
            total, split = found.groups()
            parts = {name: float(s) for name, s in (part.rsplit(maxsplit=1) for part in split.split(", "))}
            return Turn(seconds, told.peak, {"before it counts": seconds - float(total), **parts})

        return Contest({"darkroom": turn})

    return Work(f"picture by the command, {model}", prepare)


def _facts(checkpoint: Checkpoint, system: System, settings: Settings) -> Mapping[str, object]:
    """What fills the holes of the programs."""
    natural = fast_half(settings.device) or torch.float32
    return {
        "file": str(checkpoint.file),
        "config": str(checkpoint.config),
        "pipeline": pipeline_class(system),
        "device": str(settings.device),
        "dtype": settings.dtype,
        "ours": None if settings.dtype == natural else settings.dtype,  # None widens what is stored, as users run it
        "prompt": PROMPT,
    }


@dataclass(frozen=True)
class _Told:
    """What a process printed: seconds between marks, the peak of memory, other lines and when they came."""

    parts: Mapping[str, float]
    peak: int
    lines: tuple[tuple[float, str], ...]
    complaints: str  # what stood on standard error


def _fresh(program: str) -> _Told:
    """Run `program` in a process of its own; `RuntimeError` with what it says if it fails."""
    began = time.perf_counter()
    parts, lines, peak, last = {}, [], 0, 0.0
    call = [sys.executable, "-u", "-c", PRELUDE + program]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(call, stdout=subprocess.PIPE, stderr=complaints, text=True) as process,
    ):
        assert process.stdout is not None, "it is a pipe"
        for line in process.stdout:
            now = time.perf_counter() - began
            word, _, rest = line.strip().partition(" ")
            if word == "mark":
                parts[rest], last = now - last, now
            elif word == "peak":
                peak = int(rest)
            else:
                lines.append((now, line.strip()))
        failed = process.wait()
        complaints.seek(0)
        said = complaints.read()
        if failed:
            raise RuntimeError(f"a fresh process failed: {said}")
    return _Told(parts, peak, tuple(lines), said)

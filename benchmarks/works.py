"""All pieces of work by name."""

from __future__ import annotations

from benchmarks.one_network import decode, encode, step, text
from benchmarks.pictures import picture
from benchmarks.processes import command, load, start
from benchmarks.training import SMALL, train
from benchmarks.work import Work
from darkroom.registry import Registry
from darkroom.systems.system import SYSTEMS

__all__ = ["WORKS"]

WORKS: Registry[Work] = Registry("work")

SD1, SD2, SDXL = (SYSTEMS[name] for name in ("sd-v1-5", "sd-v2-1-768-v", "sdxl-base"))

WORKS.add("step-sd1-512", step(SD1, 512))
WORKS.add("step-sd2-768", step(SD2, 768))
WORKS.add("step-sdxl-512", step(SDXL, 512))
WORKS.add("step-sdxl-1024", step(SDXL, 1024))
for side in (512, 1024):
    WORKS.add(f"decode-{side}", decode(SD1, side))
    WORKS.add(f"encode-{side}", encode(SD1, side))
WORKS.add("text-sd1", text(SD1, "text_encoder"))
WORKS.add("text-sd2", text(SD2, "text_encoder"))
WORKS.add("text-sdxl", text(SDXL, "text_encoder_2"))
WORKS.add("picture-sd1-512", picture(SD1, 512))
WORKS.add("picture-sdxl-1024", picture(SDXL, 1024))
WORKS.add("train-108m", train(SMALL, 16, 32))
WORKS.add("load-sd1", load(SD1))
WORKS.add("start-sd1-512", start(SD1, 512))
WORKS.add("picturebook", command())

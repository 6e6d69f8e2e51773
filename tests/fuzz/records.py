"""Damaged and hostile records of how pictures were made: texts and tables of every tool, changed at random."""

from __future__ import annotations

import json
from copy import deepcopy
from random import Random
from typing import Any

from darkroom.errors import InputError
from darkroom.requests.records.reading import DIALECTS

__all__ = ["damaged_texts", "records_hold"]

SETTINGS = (
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 5, Size: 64x96, Clip skip: 2, "
    'Hires upscale: 2, Denoising strength: 0.5, Lora hashes: "a: 1", Mask blur: 4, Version: v1.10'
)
OWN = json.dumps(json.dumps({"prompt": "a cat", "hires": {"scale": 2.0}, "inputs": {"crop": [0, 8]}, "seed": 3}))
PROMPT = "a (cat:1.2) [b|c] <lora:x:1>"
GRAPH: dict[str, Any] = {
    "1": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 4, "steps": 20, "cfg": 7, "sampler_name": "euler", "scheduler": "karras", "denoise": 1,
            "model": ["5", 0], "positive": ["2", 0], "negative": ["3", 1], "latent_image": ["4", 0],
        },
    },
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": PROMPT, "clip": ["5", 1]}},
    "3": {"class_type": "ControlNetApplyAdvanced", "inputs": {"positive": ["2", 0], "negative": ["2", 0]}},
    "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "5": {"class_type": "LoraLoader", "inputs": {"lora_name": "a", "strength_model": 1, "model": ["6", 0]}},
    "6": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "base"}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}  # fmt: skip
WORKFLOW: dict[str, Any] = {
    "nodes": [
        {
            "id": 1,
            "type": "KSampler",
            "mode": 0,
            "inputs": [{"name": "positive", "link": 7}],
            "widgets_values": [4, "", 2],
        },
        {"id": 2, "type": "CLIPTextEncode", "widgets_values": ["a cat"]},
    ],
    "links": [[7, 2, 0, 1, 1, "CONDITIONING"]],
}
INVOKE = {"positive_prompt": "(cat)1.3 dog++", "seed": 4, "steps": 5, "scheduler": "euler_a_k", "loras": [{"lora": {}}]}
FOOOCUS = {"prompt": PROMPT, "sampler": "euler", "resolution": "(64, 64)", "loras": [["a", 1]], "seed": "3"}
SWARM = {"sui_image_params": {"prompt": PROMPT, "loras": ["a"], "loraweights": ["1"], "seed": 4}}
NOVELAI = {"prompt": "{a} 1.5::b::", "uc": "c", "scale": 5, "seed": 4, "sampler": "k_euler"}
RECORDS: tuple[tuple[str, Any], ...] = (
    ("parameters", f"{PROMPT}\nNegative prompt: fog\n{SETTINGS}\nTemplate: x"),
    ("parameters", f"{PROMPT}\n{SETTINGS}, Darkroom: {OWN}"),
    *(("prompt", GRAPH), ("workflow", WORKFLOW), ("invokeai_metadata", INVOKE), ("parameters", FOOOCUS)),
    *(("parameters", SWARM), ("Comment", NOVELAI)),
)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 10**30, 1e308, float("nan"), float("inf"), "", "x", "\x1b[2J", "\ud800", [], {}),
    *([[]], ["1", 0], ["1", "x"], {"1": 2}, "9" * 400, "(" * 200, "a:b", "<lora:", "nan", "1", [1] * 50),
)


def damaged_texts(rng: Random) -> dict[str, str]:
    """The texts of a picture, one of which is some tool's record with something wrong in it."""
    key, record = rng.choice(RECORDS)
    if not isinstance(record, str):
        record = json.loads(json.dumps(record))
        for _ in range(rng.choice((0, 1, 1, 2, 5))):
            _change(record, rng)
        record = json.dumps(record)
    if rng.random() < 0.5:
        place = rng.randrange(len(record))
        piece = rng.choice(
            ("", '"', ":", ", ", "\n", "\\", "{", "Size: ", "Steps: ", chr(rng.randrange(0x300)), "9" * 30)
        )
        record = record[:place] + piece + record[place + rng.choice((0, 0, 1, 5, 500)) :]
    return {key: record}


def _change(table: Any, rng: Random) -> None:
    """Replace, remove or add one value somewhere inside."""
    while True:
        places = list(table) if isinstance(table, dict) else list(range(len(table)))
        if not places:
            return
        place = rng.choice(places)
        if isinstance(table[place], (dict, list)) and table[place] and rng.random() < 0.7:
            table = table[place]
            continue
        if rng.random() < 0.2:
            del table[place]
        elif isinstance(table, dict) and rng.random() < 0.3:
            table[rng.choice(("text", "steps", "seed", "positive", "inputs", "mode", "x"))] = deepcopy(rng.choice(ODD))
        else:
            table[place] = deepcopy(rng.choice(ODD))
        return


def records_hold(texts: dict[str, str]) -> None:
    """Every dialect that could be meant gives what it found or an `InputError`; all that is said can be shown."""
    for key, reader in DIALECTS:
        if key not in texts:
            continue
        try:
            found = reader(texts)
        except InputError as error:
            assert len(str(error)) < 1000  # noqa: PT017 - nothing else may be raised
            continue
        if found is not None:
            assert all(isinstance(v, str) for v in (found.request.prompt, found.request.negative_prompt))
            assert all(sentence.isprintable() and len(sentence) < 1500 for sentence in found.unmapped)

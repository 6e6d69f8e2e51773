"""What answers of the own shape look like, and a picture to send, for the description at `/openapi.json`."""

from __future__ import annotations

from typing import Any

__all__ = ["JOB", "MODEL", "PICTURE", "PIXEL", "QUEUE", "SUBMITTED", "answered", "listed"]

MODEL: dict[str, Any] = {
    "id": "scenes",
    "object": "model",
    "created": 0,
    "owned_by": "darkroom",
    "state": "loaded",
    "system": "scenes",
    "size": {"width": 128, "height": 128},
    "defaults": {
        "steps": 16,
        "guidance_scale": 3.0,
        "guidance_interval": [0.0, 0.8],
        "sampler": "DPM++ 2M",
        "schedule": None,
    },
    "inputs": ["class"],
    "classes": {"class": ["house", "tree", "boat"]},
    "tasks": ["image to image", "inpainting"],
}
PICTURE: dict[str, Any] = {
    "id": "0198c0de-0000",
    "job": "0198c0de",
    "url": "/v1/pictures/0198c0de-0000.png",
    "model": "scenes",
    "model_hash": "0123456789",
    "request": {"inputs.class": 1, "seed": 7, "steps": 16},
    "images": {},
    "seed": 7,
    "width": 128,
    "height": 128,
    "bytes": 20480,
    "remarks": [],
    "created": 1790000002.5,
}
JOB: dict[str, Any] = {
    "id": "0198c0de",
    "object": "job",
    "state": "done",
    "model": "scenes",
    "request": {"inputs.class": 1, "seed": 7},
    "images": {},
    "count": 1,
    "priority": 0,
    "deadline": None,
    "exact": False,
    "refiner": None,
    "switch_at": 0.8,
    "created": 1790000000.0,
    "started": 1790000000.5,
    "finished": 1790000002.5,
    "error": None,
    "position": None,
    "step": 0,  # of a job under way, as are all of its steps
    "steps": None,
    "pictures": [PICTURE],
    "remarks": [],
}
SUBMITTED: dict[str, Any] = {
    **JOB,
    "state": "queued",
    "started": None,
    "finished": None,
    "position": 1,
    "pictures": [],
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="  # a PNG
QUEUE: dict[str, Any] = {"paused": False, "running": ["0198c0de"], "waiting": ["0198c0df"]}


def answered(example: dict[str, Any], status: int = 200) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers like `example`."""
    return {status: {"content": {"application/json": {"example": example}}}}


def listed(data: list[Any]) -> dict[str, Any]:
    """A list, as OpenAI's shape has it."""
    return {"object": "list", "data": data}

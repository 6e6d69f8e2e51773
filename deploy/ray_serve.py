"""The server as replicas of Ray Serve behind one address; jobs in PostgreSQL, files in a folder that all replicas see.

    pip install 'darkroom-diffusion[serve,postgres,ray]'
    export DARKROOM_STORE=postgresql://… DARKROOM_TOKEN=… DARKROOM_FOLDER=/shared/darkroom DARKROOM_MODELS=picturebook
    serve run deploy.ray_serve:app                     # from the folder above; port 8000

Further variables: DARKROOM_REPLICAS=1-4 (fewest and most), DARKROOM_JOBS=8 (unfinished jobs for each replica, which the
number of replicas follows), DARKROOM_CPUS and DARKROOM_GPUS (of a replica), DARKROOM_DEVICE.
"""

from __future__ import annotations

import asyncio
import math
import os
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from darkroom.cli.folders import Folders
from darkroom.cli.serve import Serving
from darkroom.errors import InputError
from darkroom.serve.app import make_app
from darkroom.serve.guard import GuardConfig
from darkroom.serve.service import Service, ServiceConfig


def setting(name: str, default: str | None = None) -> str:
    value = os.environ.get(f"DARKROOM_{name}", default)
    if not value:
        raise InputError(f"DARKROOM_{name} is not set; deploy/ray_serve.py tells what it is")
    return value


def make_service() -> Service:
    """That of one replica."""
    folders = Folders().found()
    serving = Serving(models=setting("MODELS", "picturebook").split(","), device=setting("DEVICE", "cpu"))
    config = ServiceConfig(
        Path(setting("FOLDER")),
        store=setting("STORE"),
        folders=folders,
    )
    return Service(config, serving.loaders(folders))


def by_jobs(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """As many replicas as the unfinished jobs of the store need: each replica reports all of them."""
    reported = (context.aggregated_metrics or {}).get("jobs", {})
    needed = math.ceil(max(reported.values(), default=0) / int(setting("JOBS", "8")))
    return min(max(needed, context.capacity_adjusted_min_replicas), context.capacity_adjusted_max_replicas), {}


fewest, _, most = setting("REPLICAS", "1-4").partition("-")


@serve.deployment(
    max_ongoing_requests=1000,  # streams and waiting clients; the queue has its own limits
    graceful_shutdown_timeout_s=60,
    ray_actor_options={"num_cpus": float(setting("CPUS", "1")), "num_gpus": float(setting("GPUS", "0"))},
    autoscaling_config=AutoscalingConfig(
        min_replicas=int(fewest),
        max_replicas=int(most or fewest),
        upscale_delay_s=10,
        downscale_delay_s=300,
        policy=AutoscalingPolicy(policy_function=by_jobs),
    ),
)
@serve.ingress()
class Replica:
    def __init__(self) -> None:
        self.service = make_service()

    def __serve_build_asgi_app__(self) -> Any:
        return make_app(self.service, GuardConfig({setting("TOKEN"): "owner"}))

    async def record_autoscaling_stats(self) -> dict[str, float]:
        counts = await asyncio.to_thread(self.service.store.counts)
        return {"jobs": float(counts.get("queued", 0) + counts.get("running", 0))}


app = Replica.bind()

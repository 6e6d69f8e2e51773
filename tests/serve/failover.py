"""Several servers on one store under load, one of them killed: nothing is lost, nothing is there twice.

    python -m tests.serve.failover --servers 2 --jobs 16 --model picturebook

Starts a PostgreSQL of its own and servers as processes with one folder, and sends jobs to all; kills a server in the
middle of a picture, asks the others for everything, and compares each file with what the library draws alone.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from darkroom.library import load
from tests.serve.postgres_server import PostgresServer, why_missing
from tests.serve.serving import TOKEN, finished, own_environment, server


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.serve.failover", description=__doc__, formatter_class=form)
    parser.add_argument("--model", default="picturebook")
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--lease", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    if (missing := why_missing()) is not None:
        raise SystemExit(missing)
    rng = random.Random(a.seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = PostgresServer()
        stack.callback(postgres.close)
        options = ["--store", postgres.new(), "--folder", str(folder / "shared"), "--lease", str(a.lease)]
        options += ["--together", "2", "--token", TOKEN]
        environment = own_environment(folder)
        servers = [stack.enter_context(server(a.model, environment, *options)) for _ in range(a.servers)]
        began = time.monotonic()
        jobs = []
        for seed in range(a.jobs):
            body = {"request": {"prompt": "a red house", "steps": a.steps, "seed": seed}, "exact": True}
            client = rng.choice(servers)[1]
            jobs.append(client.post("/v1/jobs", json=body, headers={"Idempotency-Key": str(seed)}).json())
        victim, other = servers[0][0], servers[-1][1]
        counts = other.get("/v1/jobs?limit=1000").json()["data"]
        while sum(job["state"] == "done" for job in counts) < a.jobs // 4 or not any(job["step"] for job in counts):
            time.sleep(0.2)
            counts = other.get("/v1/jobs?limit=1000").json()["data"]
        killed = time.monotonic()
        victim.send_signal(signal.SIGKILL)
        states = {state: sum(job["state"] == state for job in counts) for state in ("done", "running", "queued")}
        print(f"killed one of {a.servers} servers {killed - began:.1f} s after the start of {a.jobs} jobs: {states}")
        ended = [finished(other, job, 1200) for job in jobs]
        print(f"all over {time.monotonic() - killed:.1f} s later")
        pictures = other.get("/v1/pictures?limit=1000").json()["data"]
        contents = [other.get(job["pictures"][0]["url"]).content if job["pictures"] else b"" for job in ended]
        journals = list((folder / "shared" / "journals").iterdir())
        model = load(a.model)
        alone = folder / "alone.png"
        unlike = 0
        for seed, content in enumerate(contents):
            unlike += content != model.draw("a red house", steps=a.steps, seed=seed).save(alone).read_bytes()
        lost = sum(job["state"] != "done" for job in ended)
        print(f"{lost} lost, {len(pictures) - a.jobs} too many, {unlike} unlike alone, {len(journals)} journals left")
        raise SystemExit(bool(lost or unlike or journals or len(pictures) != a.jobs))


if __name__ == "__main__":
    main()

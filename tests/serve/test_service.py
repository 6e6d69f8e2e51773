"""What is kept and for how long, and what becomes of jobs when things around them break."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from serving import loader

from darkroom.serve.intake import Limits
from darkroom.serve.jobs import Job, PictureRecord, Submission
from darkroom.serve.service import Busy, Service, ServiceConfig

ASKED = Submission("tiny", {"prompt": "a cat", "steps": 1}, client="a")


def over(service: Service, job: Job, seconds: float = 240) -> Job:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = service.store.job(job.id)
        assert now is not None
        if now.is_over:
            return now
        time.sleep(0.02)
    raise AssertionError("not over")


def test_only_what_is_too_old_or_too_much_goes(service_config: ServiceConfig, tiny_folder: Path) -> None:
    service = Service(service_config, {"tiny": loader(tiny_folder)})
    jobs = [service.store.add(Job("m", {}, client="a")) for _ in range(3)]
    for i, job in enumerate(jobs):
        record = PictureRecord(job.id, 0, "m", "h", {}, {}, 1, 1, bytes=100, created=time.time() - 86_400 * (3 - i))
        service.store.add_picture(record)
        (service.pictures / f"{record.id}.png").write_bytes(b"x")
        service.store.change(job, state="done", finished=record.created)
    kept, unused = (service.uploads.folder / name for name in ("a" * 32, "b" * 32))
    for path in (kept, unused):
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    service.store.add(Job("m", {}, {"image": "a" * 32}))
    service.tidy()
    assert len(list(service.pictures.iterdir())) == 3  # nothing was said
    assert (kept.exists(), unused.exists()) == (True, False)
    service.config = replace(service_config, keep_days=2.5)
    service.tidy()
    assert [p.job for p in service.store.pictures()] == [jobs[2].id, jobs[1].id]
    assert service.store.job(jobs[0].id) is None
    service.config = replace(service_config, keep_bytes=150)
    service.tidy()
    assert [p.job for p in service.store.pictures()] == [jobs[2].id]
    assert [p.name for p in service.pictures.iterdir()] == [f"{jobs[2].id}-0000.png"]


def test_a_full_queue_is_busy_but_not_for_a_known_key(service_config: ServiceConfig, tiny_folder: Path) -> None:
    config = replace(service_config, limits=Limits(queue=2, client_queue=1))
    service = Service(config, {"tiny": loader(tiny_folder)})
    service.pause(True)
    first = service.submit(replace(ASKED, key="k"))
    with pytest.raises(Busy, match="1 jobs wait, 1 of them yours"):
        service.submit(ASKED)
    assert service.submit(replace(ASKED, key="k")).id == first.id
    service.submit(replace(ASKED, client="b"))
    with pytest.raises(Busy, match="2 jobs wait, 0 of them yours"):
        service.submit(replace(ASKED, client="c"))


def test_a_model_that_cannot_be_read_fails_its_own_jobs(
    service_config: ServiceConfig, tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\xff" * 100)
    config = replace(service_config, models=1, log_prompts=True)
    service = Service(config, {"tiny": loader(tiny_folder), "broken": loader(broken)})
    logging.getLogger("darkroom.serve").propagate = True
    with caplog.at_level(logging.INFO, "darkroom.serve"):
        service.start()
        try:
            jobs = [service.submit(replace(ASKED, model=name)) for name in ("tiny", "broken", "tiny")]
            ended = [over(service, job) for job in jobs]
            assert [job.state for job in ended] == ["done", "failed", "done"]
            assert "broken.safetensors" in (ended[1].error or "")
            assert ended[1].code == "invalid_request"
            # A folder that takes no more files fails the picture, and the server goes on.
            service.worker.folder = tmp_path / "full"
            lost = over(service, service.submit(ASKED))
            assert lost.code == "storage_error"
            assert lost.error == "the picture could not be kept: No such file or directory"
            service.worker.folder = service.pictures
            assert over(service, service.submit(ASKED)).state == "done"
        finally:
            service.stop()
    assert "a cat" in [getattr(r, "prompt", None) for r in caplog.records]
    assert json.dumps([r.getMessage() for r in caplog.records]).count("a cat") == 0


def test_a_model_whose_file_is_damaged_goes_on_as_it_was_read(
    service_config: ServiceConfig, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    weights, service = folder / "unet.safetensors", Service(service_config, {"tiny": loader(folder)})
    service.start()
    try:
        jobs = [over(service, service.submit(ASKED))]
        content = weights.read_bytes()
        with weights.open("r+b") as file:  # in its place: mapped weights would end the process
            file.truncate(1000)
        jobs.append(over(service, service.submit(ASKED)))
        assert [job.state for job in jobs] == ["done", "done"]
        pictures = [(service.pictures / f"{job.id}-0000.png").read_bytes() for job in jobs]
        assert pictures[0] == pictures[1]
        service.residents.let_go("tiny")
        failed = over(service, service.submit(ASKED))
        assert (failed.state, failed.code) == ("failed", "invalid_request")
        assert "unet.safetensors" in (failed.error or "")
        weights.write_bytes(content)
        assert over(service, service.submit(ASKED)).state == "done"
    finally:
        service.stop()

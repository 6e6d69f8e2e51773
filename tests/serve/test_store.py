"""Jobs and claims, in both databases."""

from __future__ import annotations

import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from postgres_server import PostgresServer

from darkroom.errors import InputError
from darkroom.serve import postgres as postgres_module
from darkroom.serve.database import Unreachable
from darkroom.serve.jobs import Job, PictureRecord
from darkroom.serve.store import ADDED, Store, UsedKey, open_store


def test_jobs_come_back_as_they_were(store_place: Path | str) -> None:
    store = open_store(store_place)
    first = store.add(Job("m", {"steps": 3, "prompt": "\0 ü"}, {"image": "x"}, 2, client="a", key="k", deadline=5.5))
    again = store.add(replace(first, id="other", exact=True))
    assert again == first
    with pytest.raises(UsedKey):
        store.add(Job("m", {"steps": 4}, {"image": "x"}, 2, client="a", key="k"))
    other = store.add(Job("m", {}, client="b", key="k", exact=True))
    assert other.place == first.place + 1
    running = store.change(first, state="running", started=1.0)
    with pytest.raises(InputError, match="cannot be stored"):
        store.add(Job("m", {}, client="\ud800"))
    store.close()
    store = open_store(store_place)
    assert store.unfinished() == [running, other]
    assert store.jobs(["queued"]) == [other]
    assert store.jobs(before=other.id) == [running]
    store.close()


def test_a_damaged_file_is_read_or_named(tmp_path: Path) -> None:
    store = open_store(tmp_path / "server.db")
    job = store.add(Job("model", {}))
    store.add_picture(PictureRecord(job.id, 0, "model", "h", {}, {"image": "x"}, 8, 8, 100, ("a remark",)))
    store.close()

    def changed(sql: str) -> Store:
        base = sqlite3.connect(tmp_path / "server.db")
        base.execute(sql)
        base.commit()
        base.close()
        return open_store(tmp_path / "server.db")

    store = changed("UPDATE jobs SET model = CAST(x'61ff' AS TEXT)")
    assert [j.model for j in store.jobs()] == ["a\ufffd"]
    store.close()
    for images in ("[", "[]", '{"image": {}}'):
        store = changed(f"UPDATE pictures SET images = '{images}'")
        with pytest.raises(InputError, match="the store is damaged: the images of"):
            store.used_uploads()
        store.close()


def test_the_layout_of_an_earlier_version_is_taken_over_and_a_foreign_one_named(store_place: Path | str) -> None:
    store = open_store(store_place)
    former = store.add(Job("m", {"steps": 3}, client="a", key="k"))
    for table, column, _ in ADDED:  # which the first version did not have
        store.database.run(f"ALTER TABLE {table} DROP COLUMN {column}")
    store.close()
    store = open_store(store_place)
    assert store.unfinished() == [former]
    refined = store.add(Job("m", {}, refiner="r", switch_at=0.5))
    assert store.job(refined.id) == refined
    store.database.run("ALTER TABLE pictures DROP COLUMN bytes")
    store.close()
    with pytest.raises(InputError, match=r"cannot be opened: .*bytes"):
        open_store(store_place)


def test_pictures_come_back_and_the_oldest_go(store_place: Path | str) -> None:
    store = open_store(store_place)
    # By their ids, which follow time by the millisecond and are random within one.
    jobs = sorted((store.add(Job("m", {})) for _ in range(3)), key=lambda job: job.id)
    pictures = [
        PictureRecord(job.id, n, "m", "h", {"seed": n}, {}, 8, 16, bytes=2**33, created=float(i))
        for i, job in enumerate(jobs)
        for n in range(2)
    ]
    for picture in [*pictures, replace(pictures[0], width=9)]:
        store.add_picture(picture)
    assert store.pictures_of(jobs[0].id) == pictures[:2]
    assert store.pictures(limit=3) == pictures[:2:-1]
    assert store.pictures(before=pictures[1].id) == [pictures[0]]
    assert sorted(store.forget(pictures_before=1.0)) == [p.id for p in pictures[:2]]
    assert sorted(store.forget(bytes_at_most=3 * 2**33)) == [pictures[2].id]
    assert store.picture(pictures[2].id) is None
    assert store.claim(jobs[0].id) is not None
    assert store.finish(jobs[0], "done") is not None
    assert store.forget_jobs(time.time() + 1) == 1
    store.close()


def test_a_job_has_one_owner_until_its_lease_is_over(store_place: Path | str) -> None:
    a = open_store(store_place, lease=60)
    b = open_store(store_place, lease=60)
    job, other = a.add(Job("m", {})), b.add(Job("m", {}))
    assert a.claim(job.id) == (job, False)
    assert a.claim(job.id) == (job, False)
    assert b.claim(job.id) is None
    assert b.free() == [other]
    b.ask_cancel(job.id)
    assert a.renew() == {job.id: True}
    a.lease = -1.0
    a.renew()  # as if its time were over
    assert b.free() == [job, other]
    assert b.claim(job.id) == (job, True)
    assert a.renew() == {}
    assert a.finish(job, "done") is None
    assert (over := b.finish(job, "cancelled", "it \0was \ud800", "cancelled")) is not None
    assert (over.state, over.error, over.code) == ("cancelled", r"it \x00was \ud800", "cancelled")
    assert a.claim(job.id) is None
    assert b.claim(other.id) == (other, False)
    b.release_all()
    a.ask_cancel(other.id)  # of nobody yet
    assert a.claim(other.id) == (other, True)
    a.close()
    b.close()


def test_of_many_claims_and_keys_at_once_one_holds(postgres: PostgresServer) -> None:
    url = postgres.new()
    stores = [None] * 4
    claims, keyed, gate = list[str](), list[str](), threading.Barrier(4)

    def work(i: int) -> None:
        gate.wait()
        store = open_store(url)  # they make the tables at once, too
        stores[i] = store
        for n in range(20):
            job = store.add(Job("m", {}, client="c", key=str(n)))
            keyed.append(job.id)
            if store.claim(job.id) is not None:
                claims.append(job.id)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(keyed), len(set(keyed))) == (80, 20)
    assert sorted(claims) == sorted(set(keyed))
    for store in stores:
        assert store is not None
        store.close()


def test_what_is_told_is_heard_by_the_others(postgres: PostgresServer) -> None:
    url = postgres.new()
    a, b = (open_store(url).database for _ in range(2))
    assert b.heard(0.1) is None  # whatever was before
    a.tell("word")
    assert b.heard(60) == ["word"]
    a.close()
    b.close()


def test_a_database_that_comes_back_is_used_again(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(postgres.new())
    assert store.database.heard(0.1) is None
    job = store.add(Job("m", {}))
    postgres.crash()
    monkeypatch.setattr(postgres_module, "PATIENCE", 0.3)
    with pytest.raises(Unreachable, match="PostgreSQL cannot be reached"):
        store.job(job.id)
    monkeypatch.setattr(postgres_module, "PATIENCE", 120.0)
    back = threading.Thread(target=postgres.start)
    back.start()
    assert store.job(job.id) == job
    back.join()
    assert store.database.heard(0.1) is None  # the line was cut, and is listened to anew
    assert store.database.heard(0.1) is None
    assert store.database.heard(0.1) == []
    store.close()


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"not a database, though it has some bytes" * 9)
    for place, said in (
        (tmp_path / "no.db", r"the jobs in .* cannot be opened"),
        ("mysql://x", "no URL that begins with postgresql://"),
        ("postgresql://localhost/x?what=1", "cannot be opened: .*what"),
        ("postgresql://me:secret@127.0.0.1:1/x", "cannot be opened: connection failed"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            open_store(place)
        assert "secret" not in str(caught.value)

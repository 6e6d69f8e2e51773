"""A PostgreSQL server of the tests' own, run by an unprivileged user in a temporary folder."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

__all__ = ["PostgresServer", "why_missing"]

# The newest of Debian's versions, which lie beside each other, else what the path has.
_FOUND = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))
_PATH = os.pathsep.join([*reversed(_FOUND), os.environ.get("PATH", "")])
_AS_NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def why_missing() -> str | None:
    """What is not there that the server needs; None where all is."""
    needed = ["initdb", "postgres", *(_AS_NOBODY[:1] if os.getuid() == 0 else [])]
    missing = [name for name in needed if shutil.which(name, path=_PATH) is None]
    return f"{', '.join(missing)} not found: scripts/debian_packages.sh installs PostgreSQL" if missing else None


class PostgresServer:
    """Starts at once, over a socket alone. It keeps nothing when it is closed."""

    def __init__(self) -> None:
        self._root = os.getuid() == 0  # as whom it refuses to run
        self.folder = Path(tempfile.mkdtemp(prefix="darkroom-postgres-"))
        if self._root:
            shutil.chown(self.folder, "nobody", "nogroup")
        self._run("initdb", "-D", "data", "-U", "darkroom", "-A", "trust", "--no-sync", "--no-instructions").wait()
        self._count = 0
        self.start()

    def start(self) -> None:
        options = ["-k", str(self.folder), "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=40"]
        self.process = self._run("postgres", "-D", "data", *options)
        end = time.monotonic() + 240
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < end, "PostgreSQL does not start"
                time.sleep(0.05)

    def crash(self) -> None:
        """End at once, with every connection; `start` recovers what was committed."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def url(self, database: str) -> str:
        return f"postgresql://darkroom@/{database}?host={self.folder}"

    def new(self) -> str:
        """The URL of an empty database."""
        self._count += 1
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE jobs{self._count}".encode())
        return self.url(f"jobs{self._count}")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        found = shutil.which(program, path=_PATH)
        assert found is not None, program
        command = [*(_AS_NOBODY if self._root else []), found, *arguments]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)

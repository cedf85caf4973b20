"""A PostgreSQL server of our own on a free port of loopback, that can be stopped and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.dagster.deployment import where

USER = "postgres"  # PostgreSQL does not run as root


@dataclass
class Postgres:
    """A server and its data.

    Attributes:
        folder: of its data.
        port: that it listens on.
        password: of the user postgres.
    """

    folder: Path
    port: int
    password: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Its address as TWIGMA_DATABASE takes it."""
        return f"postgresql+psycopg2://postgres:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [str(where("postgres")), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-c", "fsync=off"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                _as_postgres([*command, *options]), stdout=log, stderr=log, start_new_session=True
            )
        ready = [str(where("pg_isready")), "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, capture_output=True).returncode:
            assert self.process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it at once, as if its machine were switched off: connections break, nothing is written out."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(60)
            self.process = None

    def log(self) -> str:
        """Return the end of what it printed."""
        return (self.folder / "log").read_text()[-2000:]


def _as_postgres(command: list[str]) -> list[str]:
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", *command]


@contextmanager
def postgres(password: str) -> Iterator[Postgres]:
    """Run a new server until the block ends."""
    with tempfile.TemporaryDirectory() as name, socket.socket() as probe:
        folder = Path(name)
        (folder / "password").write_text(password)
        if os.geteuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, USER, USER)
        command = [str(where("initdb")), f"--pgdata={folder / 'data'}", "--no-sync", "--auth=scram-sha-256"]
        users = ["--username=postgres", f"--pwfile={folder / 'password'}"]
        subprocess.run(_as_postgres([*command, *users]), check=True, capture_output=True)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        server = Postgres(folder, port, password)
        server.start()
        try:
            yield server
        finally:
            server.stop()

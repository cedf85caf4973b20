"""The services of docker-compose.yml as processes of this machine, in a network of their own.

No container engine is needed: a network and mount namespace whose only interface is loopback stands for the
compose network, a hosts file for its names. Each service runs its own command with its own environment.
PostgreSQL is this machine's program on a new data folder, the object store is moto's server.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("unshare", "nsenter", "ip", "caddy", "initdb")
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def where(program: str) -> str | None:
    """Return the path of a program, PostgreSQL's own folder included; None if it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return shutil.which(program) or (str(found[-1]) if found else None)


def lacking(*programs: str) -> str:
    """Return why programs cannot run in a network of their own on this machine; empty if they can."""
    missing = [program for program in programs if not where(program)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "" if os.geteuid() == 0 else "a network namespace needs root"


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Return a compose value with its ${VARIABLES} filled in, as the compose specification says.

    Raises:
        KeyError: a variable that must be set is not, with the message of the file.
    """
    if isinstance(value, dict):
        return {key: interpolate(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name, kind, text = match.groups()
        if variables.get(name):
            return variables[name]
        if kind == "?":
            raise KeyError(f"{name}: {text}")
        return text or ""

    return _VARIABLE.sub(fill, value)


def services(variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the services of docker-compose.yml with their variables filled in."""
    text = (ROOT / "docker-compose.yml").read_text()
    found: dict[str, dict[str, Any]] = interpolate(yaml.safe_load(text)["services"], variables)
    return found


@dataclass
class Deployment:
    """Running services.

    Attributes:
        folder: where they write.
        services: the compose file's.
        prefix: what makes a command run within the namespace.
        processes: of each service.
    """

    folder: Path
    services: dict[str, dict[str, Any]]
    prefix: list[str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a service: its own and the little that this machine adds."""
        keep = {key: os.environ[key] for key in ("HOME", "LANG", "SSL_CERT_FILE") if key in os.environ}
        given = self.services[service].get("environment", {})
        ours = {key: str(value) for key, value in given.items()}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        there = {"TWIGMA_HOME": str(self.folder / "home")} if "TWIGMA_HOME" in ours else {}
        return {
            **keep,
            **ours,
            **there,
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "XDG_DATA_HOME": str(self.folder),
        }

    def inside(self, command: list[str]) -> list[str]:
        """Return a command as it runs within the namespace."""
        return [*self.prefix, *command]

    def start(self, service: str, command: list[str]) -> None:
        """Start a service; what it prints goes to a log of its name."""
        with open(self.folder / f"{service}.log", "ab") as log:
            self.processes[service] = subprocess.Popen(
                self.inside(command),
                cwd=ROOT,
                env=self.environment(service),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, command: list[str], service: str = "code") -> subprocess.CompletedProcess[str]:
        """Run a command within the namespace, with the environment of a service."""
        return subprocess.run(
            self.inside(command),
            cwd=ROOT,
            env=self.environment(service),
            capture_output=True,
            text=True,
            timeout=300,
        )

    def wait_until(self, what: str, command: list[str], service: str, seconds: float = 180) -> None:
        """Run a health check until it passes."""
        deadline = time.monotonic() + seconds
        while (done := self.run(command, service)).returncode:
            process = self.processes.get(service)
            assert process is None or process.poll() is None, f"{what} ended: {self.log(service)}"
            assert time.monotonic() < deadline, f"{what}: {done.stderr[-1500:]} {self.log(service)}"
            time.sleep(1)

    def log(self, service: str) -> str:
        """Return the end of what a service printed."""
        file = self.folder / f"{service}.log"
        return file.read_text(errors="replace")[-3000:] if file.exists() else ""


def _command(service: Mapping[str, Any]) -> list[str]:
    """Return a service's command; those of our own image go through its entry point."""
    words = shlex.split(service["command"])
    ours = str(service["image"]).startswith("twigma:")
    return [sys.executable, "-m", "twigma_dagster.cli", "exec", *words] if ours else words


def _start_all(running: Deployment, owned_by_postgres: Path) -> None:
    found = running.services
    postgres = found["postgres"]["environment"]
    data, password = owned_by_postgres / "data", owned_by_postgres / "password"
    password.write_text(postgres["POSTGRES_PASSWORD"])
    for path in (owned_by_postgres, password):
        shutil.chown(path, "postgres", "postgres")
    as_postgres = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    made = running.run(
        [
            *(*as_postgres, str(where("initdb")), f"--pgdata={data}", "--no-sync", "--auth=scram-sha-256"),
            *(f"--username={postgres['POSTGRES_USER']}", f"--pwfile={password}"),
        ]
    )
    assert made.returncode == 0, made.stderr
    running.start("postgres", [*as_postgres, str(where("postgres")), "-D", str(data), "-k", str(data)])
    running.start("store", [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "8333"])
    address = f"postgresql://{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}@postgres:5432"
    psql = ["psql", f"{address}/postgres", "-c", f"create database {postgres['POSTGRES_DB']}"]
    running.wait_until("PostgreSQL", psql, "postgres", 60)
    bucket = found["store"]["environment"]["S3_BUCKET"]
    create = f"import boto3; boto3.client('s3').create_bucket(Bucket='{bucket}')"
    running.wait_until("object store", [sys.executable, "-c", create], "code", 60)
    for name in ("ray", "code", "webserver", "daemon", "proxy"):
        for earlier in found[name].get("depends_on", {}):
            if earlier in ("code", "webserver"):
                running.wait_until(earlier, _health(found[earlier]), earlier)
        words = [w.replace("/etc/caddy/", f"{ROOT}/deploy/") for w in _command(found[name])]
        running.start(name, words)
    listens = "import socket; socket.create_connection(('127.0.0.1', 443), 5).close()"
    running.wait_until("proxy", [sys.executable, "-c", listens], "proxy", 60)


def _health(service: Mapping[str, Any]) -> list[str]:
    test = list(service["healthcheck"]["test"])
    assert test[0] == "CMD"
    return [sys.executable if word == "python" else word for word in test[1:]]


@contextmanager
def namespace(folder: Path, names: Iterable[str]) -> Iterator[list[str]]:
    """Make a network of loopback only, in which `names` are this machine; give the prefix of its commands."""
    hosts = folder / "hosts"
    hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in ["localhost", *names]))
    setup = f"ip link set lo up && mount --bind {hosts} /etc/hosts && echo up && exec sleep infinity"
    keeper = subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-c", setup], stdout=subprocess.PIPE, start_new_session=True
    )
    assert keeper.stdout
    try:
        assert keeper.stdout.readline() == b"up\n", "the namespace could not be made"
        yield ["nsenter", "--target", str(keeper.pid), "--net", "--mount", f"--wd={ROOT}", "--"]
    finally:
        end(keeper)


@contextmanager
def deployed(folder: Path, variables: Mapping[str, str]) -> Iterator[Deployment]:
    """Run all services of docker-compose.yml below `folder`, with the variables that .env would hold."""
    found = services(variables)
    # PostgreSQL does not run as root, and the folders of tests are root's alone.
    with namespace(folder, found) as prefix, tempfile.TemporaryDirectory() as owned_by_postgres:
        running = Deployment(folder, found, prefix)
        try:
            _start_all(running, Path(owned_by_postgres))
            yield running
        finally:
            for process in reversed(running.processes.values()):
                end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """End a process that we started and all that it started."""
    for kind, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
        try:
            os.killpg(process.pid, kind)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue

"""docker-compose.yml: valid, one door to outside, and its services start and ask who is there."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.dagster.deployment import NEEDED, ROOT, Deployment, deployed, interpolate, lacking

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_the_file_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_proxy_can_be_reached_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if service.get("ports")] == ["proxy"]
    assert all(service.get("network_mode") is None for service in SERVICES.values())
    assert COMPOSE["networks"]["inside"]["internal"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_watched_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":\d+\.\d+", service["image"]), "an image without a version changes by itself"
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"


def test_secrets_come_from_the_environment_only() -> None:
    example = (ROOT / "deploy" / "env.example").read_text()
    for secret in ("POSTGRES_PASSWORD", "STORE_KEY", "STORE_SECRET", "RAY_TOKEN", "UI_PASSWORD_HASH"):
        assert re.search(rf"^{secret}=(?:'')?$", example, re.MULTILINE), (
            f"{secret} has no default in the example"
        )
        with pytest.raises(KeyError, match=r"set it in \.env"):
            interpolate(f"${{{secret}:?set it in .env}}", {})
    text = (ROOT / "docker-compose.yml").read_text()
    for line in text.splitlines():
        if re.search(r"PASSWORD|SECRET|TOKEN|_KEY", line.partition(":")[0]):
            assert "${" in line, f"a secret in the file: {line.strip()}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """All services of the compose file, up; needs root, PostgreSQL's programs, Caddy and iproute2."""
    if why := lacking(*NEEDED):
        message = f"the services of docker-compose.yml cannot run here: {why}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    hashed = subprocess.run(
        ["caddy", "hash-password", "--plaintext", "open sesame"], capture_output=True, text=True, check=True
    )
    variables = {
        "POSTGRES_PASSWORD": "a-password-of-postgres",
        "STORE_KEY": "a-key",
        "STORE_SECRET": "a-secret-of-the-store",
        "RAY_TOKEN": "a-token-of-ray-that-is-long-enough",
        "GPUS": "2",
        "UI_ADDRESS": "localhost",
        "UI_USER": "researcher",
        "UI_PASSWORD_HASH": hashed.stdout.strip(),
    }
    with deployed(tmp_path_factory.mktemp("deployment"), variables) as services:
        yield services


FETCH = """
import json, ssl, sys, urllib.request
address, login, body = sys.argv[1:]
request = urllib.request.Request(address, body.encode() or None, {"Content-Type": "application/json"})
if login:
    request.add_header("Authorization", "Basic " + login)
try:
    reply = urllib.request.urlopen(request, timeout=60, context=ssl._create_unverified_context())
    print(reply.status, reply.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
LOGIN = base64.b64encode(b"researcher:open sesame").decode()


def fetch(running: Deployment, address: str, login: str = "", body: str = "") -> tuple[int, str]:
    done = running.run([sys.executable, "-c", FETCH, address, login, body], "proxy")
    assert done.returncode == 0, done.stderr
    status, _, text = done.stdout.partition(" ")
    return int(status), text


def test_the_proxy_asks_for_a_login(running: Deployment) -> None:
    assert fetch(running, "https://localhost/server_info")[0] == 401
    wrong = base64.b64encode(b"researcher:guess").decode()
    assert fetch(running, "https://localhost/server_info", wrong)[0] == 401
    assert fetch(running, "https://localhost/server_info", LOGIN)[0] == 200


def test_ray_asks_for_its_token(running: Deployment) -> None:
    assert fetch(running, "http://ray:8265/api/version")[0] == 401

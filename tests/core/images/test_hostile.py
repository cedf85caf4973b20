"""Everything that a post, a name server, a web server or a file can do to a fetch of pictures.

Each row of the tables below is one attack over a real connection: what is asked for, what comes back, and
the status and reason that must stand in the ledger. Nothing of it is stored.
"""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import re
import tarfile
import time
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.core.images import hostile_files as files
from tests.core.images.hostile_files import GOOD
from twigma_core.images.decode import open_picture
from twigma_core.images.download import download
from twigma_core.images.fetch import FetchPolicy
from twigma_core.images.shards import iter_pictures
from twigma_core.lake import Lake

ROOT = Path(__file__).resolve().parents[3]
MONTH = "2021-01"
CANARY = "AAAAcanary-secret-ZZZZ"
Handler = BaseHTTPRequestHandler
Answer = bytes | Callable[[Handler], None]


@pytest.fixture
def policy(site: Any) -> FetchPolicy:
    return FetchPolicy(
        rewrite=site.rewrite(),
        backoff_s=0.01,
        longest_wait_s=0.1,
        attempts=2,
        deadline_s=0.6,
        max_bytes=400_000,
    )


def fetch(lake: Lake, policy: FetchPolicy, url: str | None, image_id: str = "1") -> dict[str, Any]:
    """Return the ledger's row of one picture."""
    media = pl.DataFrame({"image_id": [image_id], "url": [url]}, schema_overrides={"url": pl.String})
    return download(media, None, lake, MONTH, policy=policy).row(0, named=True)


def raw(*pieces: bytes, pause: float = 0.0, times: int = 1) -> Callable[[Handler], None]:
    """Return an answer that sends bytes as they are, over and over, and hangs up."""

    def answer(handler: Handler) -> None:
        handler.close_connection = True
        try:
            for _ in range(times):
                for piece in pieces:
                    handler.connection.sendall(piece)
                    time.sleep(pause)
        except OSError:
            pass

    return answer


def ok(body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"", b""]) + body


def length(n: int) -> bytes:
    return f"Content-Length: {n}".encode()


HALF = len(GOOD) // 2
CHUNKED = b"Transfer-Encoding: chunked"
SCRIPT = files.save(files.picture(), "JPEG", comment=b"<SCRIPT>alert(1)</script>")
SHORT_ROWS = zlib.compress(bytes(300))
MANY_ROWS = zlib.compress(bytes(3_000_000), 9)

FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "HTML where a picture should be": (b"<!DOCTYPE html><html><body>Sorry</body></html>", "an HTML page"),
    "HTML after blanks": (b"\n\n  <HTML><script>alert(1)</script>", "an HTML page"),
    "SVG with a script": (b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', "an XML or SVG"),
    "XML that expands itself": (b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aa">]><l>&a;</l>', "an XML"),
    "JSON error": (b'{"errors": [{"code": 34}]}', "a JSON"),
    "ZIP": (b"PK\x03\x04" + bytes(60), "a ZIP"),
    "PDF": (b"%PDF-1.7\n" + bytes(60), "a PDF"),
    "video": (b"\x00\x00\x00\x20ftypmp42" + bytes(60), "a video"),
    "TIFF": (b"II*\x00" + bytes(60), "begins with bytes"),
    "BMP": (b"BM" + bytes(60), "begins with bytes"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "begins with bytes"),
    "pickle": (b"\x80\x04cos\nsystem\n", "begins with bytes"),
    "JPEG cut in the middle": (GOOD[:HALF], "damaged JPEG"),
    "JPEG without its last byte": (GOOD[:-1], "damaged JPEG"),
    "JPEG header alone": (b"\xff\xd8\xff\xe0", "damaged JPEG"),
    "noise after a signature": (b"\xff\xd8\xff" + bytes(range(256)) * 20, "damaged JPEG"),
    "PNG header alone": (files.PNG, "damaged PNG"),
    "PNG of too few rows": (files.png(100, 100, SHORT_ROWS), "damaged PNG"),
    "PNG without pixels": (files.png(0, 10, zlib.compress(b"")), "PNG|no pixels"),
    "PNG that unpacks to ten gigabytes": (files.png(60_000, 60_000, MANY_ROWS), "too many pixels|bomb"),
    "PNG above our cap, below Pillow's": (files.png(9_000, 9_000, MANY_ROWS), "too many pixels"),
    "PNG of two thousand million pixels a side": (files.png(2**31 - 1, 2**31 - 1, b""), "pixels|bomb"),
    "PNG one pixel high": (files.png(10**9, 1, MANY_ROWS), "pixels|bomb"),
    "PNG with a comment of 200 MB": (files.text_bomb(), "damaged PNG"),
    "JPEG that claims 65,500 pixels a side": (files.of_size(GOOD, 65_500, 65_500), "pixels|bomb"),
    "JPEG of five hundred scans": (files.many_scans(), "scans"),
    "GIF with a frame wider than itself": (files.wide_frame(), "pixels|bomb|damaged GIF"),
    "WEBP of 268 million pixels": (files.huge_webp(), "pixels|bomb"),
    "ZIP behind a JPEG": (GOOD + b"PK\x03\x04zip", "polyglot: a ZIP"),
    "PHP behind a JPEG": (GOOD + b"\n<?php system(1); ?>", "polyglot"),
    "program behind a JPEG": (GOOD + b"\x7fELF", "polyglot: a program"),
    "script in a JPEG's comment": (SCRIPT, "polyglot"),
    "script behind a PNG": (files.save(files.picture(), "PNG") + b"<script>x()</script>", "polyglot"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_hostile_file_is_undecodable(case: str, site: Any, lake: Lake, policy: FetchPolicy) -> None:
    data, reason = FILES[case]
    site.pages["/media/a"] = (200, {"Content-Type": "image/jpeg"}, data)
    start = time.monotonic()
    row = fetch(lake, policy, "https://pbs.twimg.com/media/a.jpg")
    assert row["status"] == "undecodable" and row["shard"] is None
    assert re.search(reason, row["reason"]), row["reason"]
    assert "0x" not in row["reason"] and len(row["reason"]) < 300
    assert time.monotonic() - start < 60, "the work of a bomb was not done"


ENDLESS = b"\xff\xd8\xff" + bytes(99_997)
SERVERS: dict[str, tuple[Answer, str, str]] = {
    "a body without end": (raw(ok(b""), *[ENDLESS] * 100), "refused", "larger than 400,000 bytes"),
    "chunks without end": (
        raw(ok(b"", CHUNKED), *[b"186a0\r\n" + ENDLESS + b"\r\n"] * 100),
        "refused",
        "larger than 400,000 bytes",
    ),
    "a length of a hundred gigabytes": (ok(b"", length(10**11)), "refused", "larger than 400,000 bytes"),
    "a length that is too large": (ok(GOOD, length(2 * len(GOOD))), "failed", "broke off"),
    "a length that is too small": (
        ok(GOOD, length(HALF), b"Connection: close"),
        "undecodable|failed",
        "damaged JPEG|not HTTP",
    ),
    "a negative length": (ok(GOOD, b"Content-Length: -1"), "failed", "not HTTP"),
    "two lengths": (ok(GOOD, length(HALF), length(len(GOOD))), "failed|undecodable", ""),
    "a chunk that lies": (ok(b"ffff\r\n" + GOOD, CHUNKED), "failed", "broke off"),
    "a chunk of no size": (ok(b"zz\r\n" + GOOD, CHUNKED), "failed", "broke off|not HTTP"),
    "a compressed body nobody asked for": (
        ok(zlib.compress(bytes(10**8), 9), b"Content-Encoding: deflate", b"Connection: close"),
        "undecodable",
        "begins with bytes",
    ),
    "a body that drips": (raw(ok(b"", length(4000)), *[b"\xff"] * 100, pause=0.05), "failed", "0.6 s"),
    "headers that drip": (raw(*[bytes([c]) for c in ok(GOOD)[:60]], pause=0.05), "failed", "0.6 s"),
    "silence": (raw(b"", pause=2), "failed", "0.6 s"),
    "a header of a megabyte": (ok(b"", b"X: " + bytes(10**6).replace(b"\0", b"a")), "failed", "not HTTP"),
    "a hundred thousand headers": (ok(b"", *[b"X: a"] * 100_000), "failed", "not HTTP"),
    "headers without end": (raw(b"HTTP/1.1 200 OK\r\n", *[b"X: a\r\n" * 1000] * 2000), "failed", ""),
    "no HTTP at all": (GOOD, "failed", "not HTTP"),
    "an SSH server": (b"SSH-2.0-OpenSSH_9.9\r\n", "failed", "not HTTP"),
    "hanging up at once": (raw(), "failed", "closed the connection"),
    "hanging up in the body": (ok(GOOD[:HALF], length(len(GOOD))), "failed", "broke off"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "unavailable", "HTTP 204"),
    "part of the content": (
        b"HTTP/1.1 206 Partial Content\r\n" + length(HALF) + b"\r\n\r\n" + GOOD[:HALF],
        "unavailable",
        "HTTP 206",
    ),
    "a status of no meaning": (b"HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n", "failed|unavailable", "799"),
    "waiting for ever": (
        b"HTTP/1.1 429 Too Many\r\nRetry-After: 99999999999\r\nContent-Length: 0\r\n\r\n",
        "failed",
        "HTTP 429",
    ),
    "a wait that is no number": (
        "HTTP/1.1 503 Busy\r\nRetry-After: ٣٣\r\nContent-Length: 0\r\n\r\n".encode(),
        "failed",
        "HTTP 503",
    ),
}


@pytest.mark.parametrize("case", SERVERS)
def test_a_hostile_server_is_let_go(case: str, site: Any, lake: Lake, policy: FetchPolicy) -> None:
    answer, status, reason = SERVERS[case]
    site.pages["/media/a"] = raw(answer) if isinstance(answer, bytes) else answer
    row = fetch(lake, policy, "https://pbs.twimg.com/media/a.jpg")
    assert row["status"] in status.split("|") and row["shard"] is None, row
    assert re.search(reason, row["reason"]) and len(row["reason"]) < 200, row["reason"]
    assert site.asked.total() <= policy.attempts * len(policy.sizes)


X = "pbs.twimg.com"
ADDRESSES: dict[str, tuple[str | None, str]] = {
    "none": (None, "no address"),
    "empty": ("", "no address"),
    "not https": (f"http://{X}/media/a.jpg", "not https but http"),
    "another host": ("https://evil.example/media/a.jpg", "not one of"),
    "a host that begins like X's": (f"https://{X}.evil.example/a.jpg", "not one of"),
    "a host that ends like X's": ("https://evilpbs.twimg.com/a.jpg", "not one of"),
    "X's host as a login": (f"https://{X}@evil.example/a.jpg", "login"),
    "a login": (f"https://user:{CANARY}@{X}/a.jpg", "login"),
    "another port": (f"https://{X}:8080/a.jpg", "port 8080"),
    "a port that is none": (f"https://{X}:99999/a.jpg", "malformed"),
    "loopback": ("https://127.0.0.1/a.jpg", "not one of"),
    "loopback by name": ("https://localhost/a.jpg", "not one of"),
    "loopback as a number": ("https://2130706433/a.jpg", "not one of"),
    "loopback in octal": ("https://0177.0.0.1/a.jpg", "not one of"),
    "loopback of IPv6": ("https://[::1]/a.jpg", "not one of"),
    "the cloud's metadata": ("https://169.254.169.254/latest/meta-data/", "not one of"),
    "an open bracket": ("https://[/a.jpg", "malformed"),
    "a file": ("file:///etc/passwd", "not https but file"),
    "FTP": (f"ftp://{X}/a.jpg", "not https but ftp"),
    "no scheme": (f"//{X}/a.jpg", "without a scheme"),
    "data": ("data:image/png;base64,AAAA", "not https but data"),
    "a script": ("javascript:alert(1)", "not https but javascript"),
    "a backslash": (f"https://{X}\\@evil.example/a.jpg", "malformed"),
    "a line break": (f"https://{X}/a.jpg\r\nHost: evil", "malformed"),
    "a NUL": (f"https://{X}/a\0.jpg", "malformed"),
    "a Cyrillic letter": ("https://pbs.twimg.c\u043em/a.jpg", "not one of"),
    "an emoji for a host": ("https://\U0001f4a9.example/a.jpg", "not one of"),
    "text from right to left": ("https://\u202egpj.moc.gmiwt.sbp/a.jpg", "not one of"),
    "a megabyte": (f"https://{X}/" + "a" * 10**6, "longer than 2,048"),
    "the name of another picture": (f"https://{X}/media/AAAAAAAAAAcAAAA.jpg", "media id 7"),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_an_address_is_refused_without_a_request(
    case: str, site: Any, lake: Lake, policy: FetchPolicy
) -> None:
    url, reason = ADDRESSES[case]
    row = fetch(lake, policy, url)
    assert (row["status"], row["attempts"], site.asked) == ("refused", 0, {})
    assert reason in row["reason"] and CANARY not in row["reason"]
    assert len(row["reason"]) < 400


PRIVATE = {
    "loopback": "127.0.0.1",
    "a private network": "10.0.0.8",
    "another": "192.168.1.1",
    "the cloud's metadata": "169.254.169.254",
    "a provider's network": "100.64.0.1",
    "no address": "0.0.0.0",
    "multicast": "224.0.0.1",
    "loopback of IPv6": "::1",
    "a private network of IPv6": "fd00::1",
    "a link of IPv6": "fe80::1%eth0",
    "IPv4 inside IPv6": "::ffff:10.0.0.1",
}


@pytest.mark.parametrize("case", PRIVATE)
def test_a_name_that_resolves_to_a_private_address_is_refused(
    case: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a public address stands before it."""

    async def resolve(self: Any, host: str, port: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", ("93.184.216.34", port)), (2, 1, 6, "", (PRIVATE[case], port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    row = fetch(lake, FetchPolicy(attempts=1), f"https://{X}/media/a.jpg")
    assert row["status"] == "refused" and "not a public address" in row["reason"]


def test_a_name_that_changes_between_check_and_connection_gains_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public when it is checked, private the next moment."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    connected: list[str] = []

    async def resolve(self: Any, host: str, port: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", (next(answers), port))]

    async def connect(self: Any, sock: Any, address: tuple[str, int]) -> None:
        connected.append(address[0])
        raise OSError("no network here")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", connect)
    row = fetch(lake, FetchPolicy(attempts=2, backoff_s=0), f"https://{X}/media/a.jpg")
    assert connected == ["93.184.216.34"], "the connection goes to the address that was checked"
    assert (row["status"], row["attempts"]) == ("refused", 2)
    assert "127.0.0.1, which is not a public address" in row["reason"]
    assert next(answers, None) is None


@pytest.mark.parametrize("where", ["inside", "itself", "file:///etc/passwd", "http://169.254.169.254/"])
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(where: str, code: int, site: Any, lake: Lake, policy: FetchPolicy) -> None:
    """To a private machine, to another scheme, or round and round: ten thousand are as good as one."""
    target = {"inside": f"{site.base}/secret", "itself": "/media/a?format=jpg&name=orig"}.get(where, where)
    site.pages = {"/media/a": (code, {"Location": target}, b""), "/secret": (200, {}, GOOD)}
    row = fetch(lake, policy, f"https://{X}/media/a.jpg")
    assert row["status"] == "refused" and "redirects are not followed" in row["reason"]
    assert site.asked == {"/media/a?format=jpg&name=orig": 1}


ODD: dict[str, bytes] = {
    "CMYK": files.save(files.picture().convert("CMYK"), "JPEG"),
    "grey": files.save(files.picture().convert("L"), "JPEG"),
    "progressive": files.save(files.picture(), "JPEG", progressive=True),
    "16 bits a sample": files.sixteen_bits(),
    "palette with a transparent colour": files.transparent_palette(),
    "alpha": files.save(files.picture().convert("RGBA"), "PNG"),
    "one bit a pixel": files.save(files.picture().convert("1"), "PNG"),
    "two thousand frames": files.animated(),
    "animated WEBP": files.save(
        files.picture(), "WEBP", save_all=True, append_images=[files.picture()] * 3, lossless=True
    ),
    "a second picture behind it": files.two_pictures(),
    "padding behind it": GOOD + bytes(64) + b"\r\n",
    "one pixel": files.save(files.picture((1, 1)), "PNG"),
    "twenty thousand pixels wide and one high": files.save(files.picture((20_000, 1)), "PNG"),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_picture_is_taken_as_it_is(case: str, site: Any, lake: Lake, policy: FetchPolicy) -> None:
    site.pages["/media/a"] = (200, {"Content-Type": "text/html"}, ODD[case])
    row = fetch(lake, policy, f"https://{X}/media/a.jpg")
    assert row["status"] == "ok", row["reason"]
    ((_, data),) = iter_pictures(lake, pl.DataFrame([row]))
    assert data == ODD[case]
    image = open_picture(data)
    assert (image.mode, image.size) == ("RGB", (row["width"], row["height"]))
    if case == "two thousand frames":
        assert image.getpixel((0, 0)) == (255, 0, 0), "the first frame"
    if case == "CMYK":
        found, made = (np.asarray(one, np.int16).mean() for one in (image, files.picture()))
        assert abs(found - made) < 20, "not its negative"


NAMES = [
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x",
    ".",
    "..",
    "a/b.c",
    "\U0001f4a9",
    "\u202egpj.exe",
    "a\0b",
]


def test_names_climb_out_of_no_shard(site: Any, lake: Lake, policy: FetchPolicy, tmp_path: Path) -> None:
    """Whoever unpacks a shard, even one who trusts it fully, gets plain files in his folder."""
    names = NAMES
    site.pages = {f"/media/p{n}": (200, {}, GOOD) for n in range(len(names))}
    urls = [f"https://{X}/media/p{n}.jpg" for n in range(len(names))]
    ledger = download(pl.DataFrame({"image_id": names, "url": urls}), None, lake, MONTH, policy=policy)
    assert set(ledger["status"]) == {"ok"} and sorted(ledger["image_id"]) == sorted(names)
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    (shard,) = ledger["shard"].unique()
    with tarfile.open(fileobj=io.BytesIO(lake.read_bytes(shard))) as tar:
        tar.extractall(inside, filter="fully_trusted")
    made = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(made) == len(names) and {path.parent for path in made} == {inside}
    assert all(path.name.isascii() and path.read_bytes() == GOOD for path in made)


def test_no_secret_is_sent_nor_said(
    site: Any, lake: Lake, monkeypatch: pytest.MonkeyPatch, caplog: Any, capfd: Any
) -> None:
    """A server that echoes tokens in its status line, headers and body, and a base address with a login."""
    caplog.set_level(logging.DEBUG)
    for name in ("X_BEARER_TOKEN", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://{CANARY}.example")
    seen: list[str] = []

    def echo(handler: Handler) -> None:
        seen.append(str(handler.headers).replace(handler.headers.get("Authorization", "-"), ""))
        handler.send_response(500, f"Bearer {CANARY}")
        handler.send_header("X-Token", CANARY)
        handler.send_header("Set-Cookie", f"session={CANARY}")
        handler.send_header("Content-Length", str(len(CANARY)))
        handler.end_headers()
        handler.wfile.write(CANARY.encode())

    site.pages = {
        "/media/echo": echo,
        "/media/broken": raw(f"HTTP/9.9 Bearer {CANARY}\r\n\r\n".encode()),
        "/media/json": (200, {}, json.dumps({"error": f"bad token {CANARY}"}).encode()),
    }
    said: list[str] = []
    for base in (site.base, site.base.replace("://", f"://user:{CANARY}@"), f"http://u:{CANARY}@127.0.0.1:9"):
        policy = FetchPolicy(rewrite={X: base}, attempts=2, backoff_s=0, deadline_s=5)
        names = ["echo", "broken", "json"]
        media = pl.DataFrame({"image_id": names, "url": [f"https://{X}/media/{n}.jpg" for n in names]})
        ledger = download(media, None, Lake(str(lake.path("x"))), MONTH, policy=policy, say=said.append)
        assert set(ledger["status"]) <= {"failed", "undecodable"}
        assert CANARY not in ledger.write_json()
    assert seen and not [line for line in seen if CANARY in line or "Cookie" in line]
    assert CANARY not in caplog.text + "".join(said) + "".join(capfd.readouterr())


def test_pictures_from_outside_are_opened_in_one_place() -> None:
    ours = {"images/decode.py"}
    drawn_here = {"figures/files.py", "release/report.py", "sample/training/corpus.py"}
    openers = set()
    for path in (ROOT / "twigma_core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open"):
                openers.add(path.relative_to(ROOT / "twigma_core").as_posix())
    assert openers == ours | drawn_here

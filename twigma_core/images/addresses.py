"""Which addresses may be asked for a picture, and which machine may answer.

What belongs here: judging an address, X's names for the sizes of a picture, resolving a host safely. What
does not: requests (`fetch`).

An address comes from a post, so it is hostile: only https to hosts on a list, and the machine that answers
must have a public address, checked on the very connection that is used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from urllib.parse import urlencode, urlsplit

import polars as pl
from aiohttp.abc import AbstractResolver, ResolveResult

from twigma_core.collect.parse import media_id_of_url

_X_NAME = re.compile(r"^https://pbs\.twimg\.com/media/[A-Za-z0-9_-]{15}(?=[.?]|$)")


LONGEST = 2048
"""Characters of an address that is asked for or put down."""


class RefusedAddress(ValueError):
    """An address that we may not ask; the message says why and repeats nothing secret of it."""


def check_address(url: str | None, hosts: Collection[str]) -> str:
    """Return `url` if it is https to one of `hosts`.

    Raises:
        RefusedAddress: no address, malformed, not https, another host or port, or with a login in it.
    """
    if not url:
        raise RefusedAddress("no address")
    if len(url) > LONGEST:
        raise RefusedAddress(f"address is longer than {LONGEST:,} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RefusedAddress("malformed address") from error
    if any(ord(c) <= 32 or ord(c) == 127 for c in url) or "\\" in url:
        raise RefusedAddress("malformed address: control characters, spaces or backslashes in it")
    if parts.scheme != "https":
        raise RefusedAddress(f"address is not https but {parts.scheme or 'without a scheme'}")
    if parts.username or parts.password:
        raise RefusedAddress("address carries a login")
    if parts.hostname not in hosts:
        raise RefusedAddress(f"host {parts.hostname!r} is not one of {', '.join(hosts)}")
    if port not in (None, 443):
        raise RefusedAddress(f"port {port} is not 443")
    return url


def size_ladder(url: str, sizes: Iterable[str]) -> list[str]:
    """Return the addresses of one picture in the order to try: X's sizes, or the address as it is.

    X serves `https://pbs.twimg.com/media/<name>.<ext>` in other sizes as
    `https://pbs.twimg.com/media/<name>?format=<ext>&name=<size>`.
    """
    parts = urlsplit(url)
    path = PurePosixPath(parts.path)
    sizes = list(sizes)
    if (
        not sizes
        or parts.hostname != "pbs.twimg.com"
        or path.parent.as_posix() != "/media"
        or not path.suffix
    ):
        return [url]
    base = f"https://{parts.netloc}{path.with_suffix('')}"
    return [f"{base}?{urlencode({'format': path.suffix[1:], 'name': size})}" for size in sizes]


def same_picture(one: str | None, other: str | None) -> bool:
    """Say whether two addresses name one picture, whatever their size and format parameters."""

    def name(address: str | None) -> str:
        return urlsplit(address or "").path.rsplit(".", 1)[0]

    return name(one) == name(other)


def names_another(image_id: str, url: str | None) -> str | None:
    """Return the media id that an address's file name encodes, if it is another than `image_id`.

    X's names have 15 characters; what a name of another length means is not known, so it is not judged.
    """
    if not url or not _X_NAME.search(url):
        return None
    encoded = media_id_of_url(url)
    return encoded if encoded != image_id else None


def name_others(image_ids: pl.Series, urls: pl.Series) -> pl.Series:
    """Say of each address whether its file name encodes another media id than the one beside it (bool).

    As `names_another`, which judges the few whose name is not plainly the id's: a month's dataset looks at
    the addresses of all months so far, which one by one takes twenty times as long.
    """
    # Twelve characters of base64 are nine bytes, the first eight of which are the id.
    name = pl.col("url").str.extract(r"^https://pbs\.twimg\.com/media/([A-Za-z0-9_-]{12})")
    standard = name.str.replace_all("-", "+", literal=True).str.replace_all("_", "/", literal=True)
    number = standard.str.decode("base64", strict=False).bin.slice(0, 8)
    encoded = number.bin.reinterpret(dtype=pl.UInt64, endianness="big").cast(pl.String)
    asked = pl.DataFrame({"id": image_ids, "url": urls})
    plain = asked.select((encoded == pl.col("id")).fill_null(False)).to_series()
    judged = [names_another(*row) is not None for row in asked.filter(~plain).iter_rows()]
    other = pl.zeros(len(asked), pl.Boolean, eager=True)
    return other.scatter((~plain).arg_true(), judged)


class PublicResolver(AbstractResolver):
    """Resolves a host for aiohttp, which then connects to just what was resolved and checked here.

    A name that resolves differently the next moment gains nothing, and TLS still verifies the name.

    Args:
        named: (host, port) of the servers that a person named, which alone may be private.
    """

    def __init__(self, named: Collection[tuple[str, int]] = ()) -> None:
        self._named = frozenset(named)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            RefusedAddress: one of them is private, loopback, link-local, multicast or reserved.
            OSError: the name does not resolve.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        if (host, port) not in self._named:
            for info in found:
                _require_public(host, str(info[4][0]))
        return [
            ResolveResult(
                hostname=host, host=str(info[4][0]), port=port, family=info[0], proto=info[2], flags=0
            )
            for info in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _require_public(host: str, text: str) -> None:
    address = ipaddress.ip_address(text.split("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or address
    if not mapped.is_global or mapped.is_multicast:
        raise RefusedAddress(f"{host} resolves to {text}, which is not a public address")

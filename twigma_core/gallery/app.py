"""A gallery of the dataset on loopback: by month, by cluster, by words, or by all of these; thumbnails only.

Pictures that are probably not safe for work, or have no score, leave this process blurred until somebody
asks for one of them. The page works without scripts, with a keyboard, with a screen reader, on a phone; its
policy lets it load nothing from elsewhere.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import polars as pl
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from twigma_core import contact
from twigma_core.figures.pictures import is_veiled, veil
from twigma_core.gallery.search import find
from twigma_core.images.decode import BadPicture
from twigma_core.lake import Lake, MissingPartition

if TYPE_CHECKING:
    from twigma_core.models.clip import ClipEncoder

PAGE = 48
"""Pictures of a page."""
PIXELS = 256
"""Longest side of a thumbnail."""
WORDS = 5
"""Words that stand for a cluster."""

_HERE = Path(__file__).parent
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def build_app(lake: Lake, encoder: Callable[[], ClipEncoder], notices: tuple[str, ...] = ()) -> Starlette:
    """Return the gallery as an ASGI application.

    Args:
        lake: whose `dataset`, and `clusters` where there are any, are shown as they are at each request.
        encoder: gives the model that made the embeddings; asked at the first search.
        notices: sentences that every page shows, such as that the data are synthetic.
    """
    one_at_a_time = threading.Lock()

    def page(request: Request) -> Response:
        asked = _Asked(request)
        try:
            months = lake.partitions("dataset")
            if not months:
                raise MissingPartition("dataset has no month yet; materialize dataset first")
            if asked.month and asked.month not in months:
                raise MissingPartition(f"dataset/{asked.month} is not materialized; materialize it first")
            chosen = [asked.month] if asked.month else months
            if asked.text:
                with one_at_a_time:
                    rows = find(lake, encoder(), asked.text, chosen, PAGE, asked.cluster)
                total = rows.height
            else:
                rows, total = _listed(lake, chosen, asked.cluster, asked.page)
        except (MissingPartition, ValueError) as error:
            return _page(400, asked, lake, notices, error=str(error))
        return _page(
            200,
            asked,
            lake,
            notices,
            total=total,
            pages=math.ceil(total / PAGE),
            rows=[{**row, "veiled": is_veiled(row["nsfw_score"])} for row in rows.iter_rows(named=True)],
        )

    def thumbnail(request: Request) -> Response:
        month, image_id = request.path_params["month"], request.path_params["image_id"]
        if month not in lake.partitions("dataset"):
            return PlainTextResponse(f"dataset/{month} is not materialized", 404, _HEADERS)
        found = lake.scan("dataset", [month]).filter(image_id=image_id).collect()
        if found.is_empty():
            return PlainTextResponse(f"dataset/{month} has no picture {image_id}", 404, _HEADERS)
        row = found.row(0, named=True)
        try:
            image = contact.thumbnail(lake, row, PIXELS)
        except (OSError, BadPicture) as error:
            return PlainTextResponse(f"picture {image_id} of {month} cannot be read: {error}", 410, _HEADERS)
        if is_veiled(row["nsfw_score"]) and request.query_params.get("open") != "1":
            image = veil(image)
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=80)
        # the picture may be deleted tomorrow, so no browser keeps it
        return Response(buffer.getvalue(), 200, {**_HEADERS, "Cache-Control": "no-store"}, "image/jpeg")

    return Starlette(
        routes=[
            Route("/", page),
            Route("/thumbnail/{month}/{image_id}", thumbnail),
            Route("/favicon.ico", lambda _: Response(status_code=204, headers=_HEADERS)),
            *(Route(f"/{name}", _file(name)) for name in ("gallery.css", "gallery.js")),
        ],
        # a page elsewhere that names this address by its own host name is refused
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


class _Asked:
    """What a request asks for; what cannot be read is as if it had not been asked."""

    def __init__(self, request: Request) -> None:
        query = request.query_params
        self.text = query.get("q", "").strip()[:500]
        self.month = query.get("month", "")
        self.cluster = _whole(query.get("cluster", ""))
        self.page = max(1, _whole(query.get("page", "")) or 1)

    def address(self, page: int) -> str:
        """Return the address of another page of the same."""
        asked = {"month": self.month, "cluster": self.cluster, "page": page}
        return "/?" + urlencode({name: value for name, value in asked.items() if value not in ("", None)})


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _listed(lake: Lake, months: list[str], cluster: int | None, page: int) -> tuple[pl.DataFrame, int]:
    """Return a page of the pictures of these months, and how many there are in all.

    Of a cluster the most typical come first, else the newest.
    """
    rows = lake.scan("dataset", months).select("image_id", "month", "caption", "nsfw_score")
    order, down = ["month", "image_id"], True
    if cluster is not None:
        labels = lake.scan("clusters", months).filter(cluster=cluster).select("image_id", "distance")
        rows = rows.join(labels, on="image_id")
        order, down = ["distance", "image_id"], False
    total = rows.select(pl.len()).collect().item()
    return rows.sort(order, descending=down).slice((page - 1) * PAGE, PAGE).collect(), total


def _clusters(lake: Lake) -> list[dict[str, Any]]:
    """Return label and words of each cluster that there is."""
    if lake.has("cluster_themes"):
        themes = lake.read("cluster_themes").filter(pl.col("rank") <= WORDS).sort("cluster", "rank")
        words = themes.group_by("cluster", maintain_order=True).agg(pl.col("word").str.join(", "))
        return words.to_dicts()
    labels = lake.scan("clusters").select("cluster").unique().sort("cluster").collect()
    return labels.with_columns(word=pl.lit("")).to_dicts()


def _page(status: int, asked: _Asked, lake: Lake, notices: tuple[str, ...], **values: Any) -> HTMLResponse:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("gallery.html")
    values |= {"months": lake.partitions("dataset"), "clusters": _clusters(lake), "notices": notices}
    return HTMLResponse(template.render(asked=asked, **values), status, _HEADERS)


def _file(name: str) -> Callable[[Request], Response]:
    return lambda _: FileResponse(_HERE / name, headers=_HEADERS)

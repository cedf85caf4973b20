"""What X and authors say must be gone: result files of compliance jobs, the opt-out list, X asked anew.

What belongs here: reading those files into the table `tombstones`, and asking X. What does not: taking things
out of pages (`tombstones`) and out of the lake (`twigma_core.purge`).

Files lie in the lake's inbox, whoever put them there: `compliance/tweets/*` and `compliance/users/*` hold
results as X gives them, a line of JSON a post or account; `opt_out.csv` has an author's id a line, and
anything after a comma. What is asked of X is written there too, so one way leads into the table.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import requests

from twigma_core import tables
from twigma_core.collect import fields
from twigma_core.collect.budget import Budget
from twigma_core.collect.hydrate import FOUND, hydrate, outcomes
from twigma_core.collect.ids import Asked
from twigma_core.collect.pacing import Say
from twigma_core.collect.tombstones import AUTHOR, POST
from twigma_core.collect.x_api import Forbidden, XApiError, XClient, loopback
from twigma_core.lake import Lake

INBOX = "inbox/compliance"
OPT_OUT = "inbox/opt_out.csv"
FOLDERS = {POST: f"{INBOX}/tweets", AUTHOR: f"{INBOX}/users"}
_JOB_TYPES = {POST: "tweets", AUTHOR: "users"}
_REASONS = {
    **{reason: reason for reason in tables.GONE},
    "scrub_geo": "scrubbed",
    "not_authorized": "not authorized",
}
_STAY = (FOUND, "unanswered", "pending", "refused")
POLL_S, PATIENCE_S = 10.0, 3600.0
"""Seconds between two looks at a compliance job, and until it is given up for this day."""


@dataclass
class Read:
    """What files of an inbox say.

    Attributes:
        rows: kind, id, status and file of each post and account, the first word of each.
        counts: lines by what became of them; with `rows`, every line is accounted for.
        bad: the first bad lines, with file, line and reason.
    """

    rows: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def take(self, kind: str, one: str, status: str, file: str) -> None:
        """Note what a line says of an id."""
        if (kind, one) in self.rows:
            self.counts["repeated"] += 1
        else:
            self.rows[kind, one] = status, file
            self.counts["read"] += 1

    def refuse(self, file: str, line: int, why: str) -> None:
        """Note a line that says nothing."""
        self.counts["bad lines"] += 1
        if len(self.bad) < 50:
            self.bad.append(f"{file}, line {line}: {why}")


def read_inbox(lake: Lake) -> Read:
    """Read every compliance result and the opt-out list; what cannot be read is counted, never fatal."""
    found = Read()
    for kind, folder in FOLDERS.items():
        for file in lake.list_files(folder):
            for number, line in enumerate(lake.read_bytes(file).splitlines(), 1):
                if line.strip():
                    _read_line(found, kind, file.removeprefix("inbox/"), number, line)
    if lake.exists(OPT_OUT):
        _read_opt_out(found, lake.read_bytes(OPT_OUT).decode("utf-8-sig", "replace"))
    return found


def _read_opt_out(found: Read, words: str) -> None:
    for number, line in enumerate(words.splitlines(), 1):
        text = line.partition(",")[0].strip().strip('"')
        if not text or text.startswith("#") or (number == 1 and not text[0].isdigit()):
            continue
        author = fields.identifier(text)
        if author:
            found.take(AUTHOR, author, "opt out", "opt_out.csv")
        else:
            found.refuse("opt_out.csv", number, f"{text[:40]!r} is no user id")


def _read_line(found: Read, kind: str, file: str, number: int, line: bytes) -> None:
    try:
        said = fields.mapping(json.loads(line))
    except (ValueError, RecursionError):
        found.refuse(file, number, "not a line of JSON")
        return
    one = fields.identifier(said.get("id"))
    if one is None:
        found.refuse(file, number, "no usable id")
        return
    reason = str(said.get("reason") or said.get("action") or "").lower()
    status = _REASONS.get({"delete": "deleted"}.get(reason, reason))
    if status is None:
        found.refuse(file, number, f"unknown reason {reason[:40]!r}")
        return
    found.take(kind, one, status, file)


def tombstones(lake: Lake, found: Read) -> pl.DataFrame:
    """Return table `tombstones`: what it named before, what was read, and the posts of authors that go.

    `found.counts` is told how many ids of posts are of none here: they are kept all the same, for an archive
    may still bring them.
    """
    before = lake.read("tombstones") if lake.has("tombstones") else tables.empty("tombstones")
    here = lake.scan("tweets").select("tweet_id", "month", "author_id").collect()
    known = {(row["kind"], row["id"]) for row in before.iter_rows(named=True)}
    fresh = {key: said for key, said in found.rows.items() if key not in known}
    authors = {one for kind, one in [*known, *fresh] if kind == AUTHOR}
    status = {row["id"]: (row["status"], row["source"]) for row in before.iter_rows(named=True)}
    status |= {one: said for (_, one), said in fresh.items()}
    for post, author in (
        here.filter(pl.col("author_id").is_in(authors)).select("tweet_id", "author_id").rows()
    ):
        if (POST, post) not in known:
            fresh.setdefault((POST, post), status[author])
    months = {post: month for post, month, _ in here.rows()}
    media = dict(
        lake.scan("tweet_media")
        .filter(pl.col("tweet_id").is_in([one for kind, one in fresh if kind == POST]))
        .group_by("tweet_id")
        .agg(pl.col("image_id").sort())
        .collect()
        .iter_rows()
    )
    now = datetime.now(UTC)
    rows = [
        (kind, one, state, file, months.get(one) if kind == POST else None, media.get(one, []), now)
        for (kind, one), (state, file) in fresh.items()
    ]
    found.counts["new"] = len(rows)
    found.counts["posts not here"] = sum(kind == POST and one not in months for kind, one in fresh)
    added = pl.DataFrame(rows, schema=tables.empty("tombstones").schema, orient="row")
    return tables.conform("tombstones", pl.concat([before, added]).sort("kind", "id"))


# ---------------------------------------------------------------- asking X


def ask(
    client: XClient,
    lake: Lake,
    kind: str,
    ids: Sequence[str],
    budget: Budget,
    say: Say,
    poll_s: float = POLL_S,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Ask X which posts or accounts are gone, and put what it says into the inbox; return how many are.

    A compliance job is asked first, which costs nothing; a token that may not have one looks posts up in
    batches instead, which X charges for.

    Args:
        client: where to ask.
        lake: where the answer goes.
        kind: `POST` or `AUTHOR`.
        ids: of the posts or accounts.
        budget: what a lookup may spend.
        say: told which way was taken.
        poll_s: seconds between two looks at a job.
        sleep: waits so long.

    Raises:
        XApiError: X refused both, did not answer within the bounds, or did not finish a job in an hour.
    """
    if not ids:
        return 0
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    try:
        lines = list(_job(client, kind, ids, stamp, poll_s, sleep))
        how = "compliance"
    except Forbidden as error:
        if kind != POST:
            say(
                "the token may have no compliance jobs: posts of closed accounts show when they are looked up"
            )
            return 0
        say(f"no compliance job ({error}); looking {len(ids):,} posts up in batches instead")
        lines = list(_looked_up(client, lake, f"compliance-{stamp}", ids, budget))
        how = "lookup"
    if lines:
        file = f"{FOLDERS[kind]}/{stamp}-{how}.ndjson"
        lake.write_bytes(file, b"\n".join(lines) + b"\n")
    say(f"X was asked for {len(ids):,} ids by {how}: {len(lines):,} are gone")
    return len(lines)


def _job(
    client: XClient, kind: str, ids: Sequence[str], name: str, poll_s: float, sleep: Callable[[float], object]
) -> Iterator[bytes]:
    """Run one compliance job: create, upload, wait, download."""
    job = client.create_job(_JOB_TYPES[kind], f"twigma-{name}")
    _transfer(client, "PUT", job["upload_url"], "\n".join(ids).encode())
    waited = 0.0
    while (status := job.get("status")) not in ("complete", "failed", "expired"):
        if waited >= PATIENCE_S:
            raise XApiError(f"compliance job {job['id']} is {status} after an hour; run again tomorrow")
        sleep(poll_s)
        waited += poll_s
        job = job | client.job(str(job["id"]))
    if status != "complete":
        raise XApiError(f"compliance job {job['id']} is {status}; run again later")
    yield from (line for line in _transfer(client, "GET", job["download_url"]).splitlines() if line.strip())


def _transfer(client: XClient, method: str, url: str, data: bytes | None = None) -> bytes:
    """Talk to the store of compliance jobs: its addresses are signed, so the token is not sent along.

    Raises:
        XApiError: the address is not one to send to, or the store refused or did not answer.
    """
    if client.base_url:
        loopback(url)
    elif urlsplit(url).scheme != "https":
        raise XApiError(f"X named {url[:60]!r} for a compliance job, which is not an https address")
    headers = {"Content-Type": "text/plain"}
    try:
        answer = requests.request(
            method, url, data=data, headers=headers, timeout=client.timeout_s, allow_redirects=False
        )
    except requests.RequestException as error:
        why = type(error).__name__
        raise XApiError(f"the store of compliance jobs did not answer ({why}); run again later") from None
    if answer.status_code not in (200, 201):
        raise XApiError(f"the store of compliance jobs refused ({answer.status_code}); run again later")
    return answer.content


def _looked_up(client: XClient, lake: Lake, name: str, ids: Sequence[str], budget: Budget) -> Iterator[bytes]:
    hydrate(client, lake, name, ids, budget)
    yield from gone_lines(outcomes(lake, name, client.source, Asked(list(ids))))


def gone_lines(found: pl.DataFrame) -> Iterator[bytes]:
    """Yield a line of a compliance result for each id that a lookup says is gone; see `hydrate.outcomes`."""
    for row in found.filter(~pl.col("status").is_in(_STAY)).iter_rows(named=True):
        said: dict[str, Any] = {"id": row["id"], "action": "delete", "reason": row["status"]}
        yield json.dumps(said).encode()

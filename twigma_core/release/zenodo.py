"""Upload of a release to Zenodo: a new record, or a new version of one, with a DOI of its own.

Zenodo's deposit API (developers.zenodo.org): a deposition is a draft with a bucket for its files.
`newversion` makes a draft of a published record that inherits its files; there is at most one such draft,
so that an upload that was killed goes on where it was. A draft has no subfolders: the release goes in as one
zip, with README.md and CHANGELOG.md beside it to be read on the page.
"""

from __future__ import annotations

import hashlib
import html
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import quote

import requests
import tenacity

from twigma_core.release.publish import Package, PublishError

ZENODO = "https://zenodo.org"
READ_ON_THE_PAGE = ("README.md", "CHANGELOG.md")
TIMEOUT_S = (10, 600)
ATTEMPTS = 5
_PASSING = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Deposited:
    """What became of an upload.

    Attributes:
        record: id of the draft or record.
        doi: its DOI, reserved or registered.
        url: its page.
        published: whether it is public; a draft can still be looked at, changed and discarded.
    """

    record: str
    doi: str
    url: str
    published: bool


def archive(package: Package) -> bytes:
    """Return the release as a zip with one folder; the same release gives the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in package.files:
            entry = zipfile.ZipInfo(f"twigma-{package.version}/{path}", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, (package.folder / path).read_bytes())
    return buffer.getvalue()


def upload_files(package: Package) -> dict[str, bytes]:
    """Return the files of the record by name."""
    files = {f"twigma-{package.version}.zip": archive(package)}
    there = [name for name in READ_ON_THE_PAGE if name in package.files]
    return files | {name: (package.folder / name).read_bytes() for name in there}


def metadata(package: Package, published: date) -> dict[str, Any]:
    """Return what Zenodo is told of a release."""
    return {
        "upload_type": "dataset",
        "title": package.title,
        "version": package.version,
        "publication_date": published.isoformat(),
        "description": f"<p>{html.escape(package.description)}</p>",
        "creators": [{"name": name} for name in package.authors],
        "access_right": "open",
        "license": package.license.lower(),
        "keywords": ["AI-generated images", "social media", "CLIP", "BLIP"],
    }


def deposit(
    package: Package,
    token: str,
    published: date,
    record: str | None = None,
    publish: bool = True,
    base: str = ZENODO,
    say: Callable[[str], object] = lambda text: None,
) -> Deposited:
    """Upload a release to Zenodo.

    Args:
        package: the release.
        token: with the scopes deposit:write and, to publish, deposit:actions.
        published: day of publication.
        record: id of a record, to make a new version of it, or of a draft, to fill it; None is a new record.
        publish: make it public, which cannot be undone; else it stays a draft.
        base: Zenodo's address; https://sandbox.zenodo.org is for trying.
        say: told of each step.

    Raises:
        PublishError: Zenodo refuses or does not answer, a file arrived damaged, or the record has this
            version already. The draft stays, to be gone on with; nothing is public.
    """
    zenodo = _Zenodo(base.rstrip("/"), token)
    draft = _open_draft(zenodo, package, record, say)
    number = str(draft["id"])
    files = upload_files(package)
    for old in draft.get("files", []):
        zenodo.ask("DELETE", f"/api/deposit/depositions/{number}/files/{old['id']}")
    for name, data in files.items():
        say(f"{name}: {len(data):,} bytes")
        answer = zenodo.ask("PUT", f"{draft['links']['bucket']}/{quote(name)}", data=data)
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if answer.get("checksum") != f"md5:{digest}":
            raise PublishError(
                f"Zenodo has {answer.get('checksum')} of {name}, not md5:{digest}: it arrived damaged; "
                f"run it again with --record {number}"
            )
    told = {"metadata": metadata(package, published)}
    draft = zenodo.ask("PUT", f"/api/deposit/depositions/{number}", json=told)
    if publish:
        say("publish")
        draft = zenodo.ask("POST", f"/api/deposit/depositions/{number}/actions/publish")
    doi = draft.get("doi") or draft["metadata"].get("prereserve_doi", {}).get("doi", "")
    return Deposited(number, doi, draft["links"].get("html") or f"{base}/deposit/{number}", publish)


def _open_draft(
    zenodo: _Zenodo, package: Package, record: str | None, say: Callable[[str], object]
) -> dict[str, Any]:
    if record is None:
        draft = zenodo.ask("POST", "/api/deposit/depositions", json={})
        say(f"a new record, draft {draft['id']}; if this ends early, go on with --record {draft['id']}")
        return draft
    found = zenodo.ask("GET", f"/api/deposit/depositions/{quote(record, safe='')}")
    if not found.get("submitted"):
        say(f"draft {found['id']}")
        return found
    if found["metadata"].get("version") == package.version:
        raise PublishError(
            f"Zenodo's record {record} is version {package.version} already; nothing was changed"
        )
    made = zenodo.ask("POST", f"/api/deposit/depositions/{found['id']}/actions/newversion")
    draft = zenodo.ask("GET", made["links"]["latest_draft"])
    before = found["metadata"].get("version", "no version")
    say(f"a new version of record {record} ({before}), draft {draft['id']}")
    return draft


class _Zenodo:
    """Zenodo's deposit API; the token goes into a header, and to this host only."""

    def __init__(self, base: str, token: str) -> None:
        self._base = base
        self._token = token

    def ask(self, method: str, address: str, **body: Any) -> dict[str, Any]:
        """Send a request, again where the failure is passing; return the JSON of the answer.

        Raises:
            PublishError: see `deposit`.
        """
        url = self._base + address if address.startswith("/") else address
        if not url.startswith(f"{self._base}/"):
            raise PublishError(f"Zenodo names an address that is not its own: {url}; nothing was sent there")
        again = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_exponential(multiplier=0.5, max=30),
            retry=tenacity.retry_if_exception_type(_Passing),
            reraise=True,
        )
        try:
            return again(self._once, method, url, body)
        except _Passing as error:
            raise PublishError(str(error)) from None

    def _once(self, method: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
        where = f"Zenodo, {method} {url.removeprefix(self._base)}"
        try:
            answer = requests.request(
                method,
                url,
                headers={"Authorization": f"Bearer {self._token}", "Accept": "application/json"},
                timeout=TIMEOUT_S,
                allow_redirects=False,
                **body,
            )
        except requests.RequestException as error:
            # A POST may have been done although its answer was lost: it is not sent twice.
            kind = PublishError if method == "POST" else _Passing
            raise kind(
                f"{where}: no answer ({type(error).__name__}); look at the record, then go on"
            ) from None
        if answer.status_code in _PASSING and (method != "POST" or answer.status_code in (429, 503)):
            raise _Passing(f"{where}: {answer.status_code} after {ATTEMPTS} attempts; try again later")
        if answer.status_code in (401, 403):
            raise PublishError(
                f"{where}: {answer.status_code}: the token is not accepted; set ZENODO_TOKEN to one with "
                f"deposit:write and deposit:actions, made at {self._base}"
            )
        if not 200 <= answer.status_code < 300:
            raise PublishError(f"{where}: {answer.status_code} {_reason(answer)}")
        return answer.json() if answer.content else {}


class _Passing(PublishError):
    """A failure that may be gone the next time."""


def _reason(answer: requests.Response) -> str:
    try:
        said = answer.json()
    except ValueError:
        return answer.text[:200]
    parts = [f"{error.get('field')}: {error.get('message')}" for error in said.get("errors", [])]
    return "; ".join([str(said.get("message", "")), *parts])[:500]

"""Pages of HTML that open from disk: text escaped, one style sheet, a policy that forbids the rest."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any


def render(template: Path, **values: Any) -> str:
    """Return a template filled in; `policy` is its content security policy.

    Raises:
        ValueError: the template has no style sheet of its own.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(policy=policy(template), **values)


def policy(template: Path) -> str:
    """Return the policy of a template: pictures in the page and its one style sheet, by hash."""
    found = re.search(r"<style>(.*?)</style>", template.read_text(encoding="utf-8"), flags=re.DOTALL)
    if found is None:
        raise ValueError(f"{template.name} has no <style> element; the page's policy is made from it")
    style = base64.b64encode(hashlib.sha256(found.group(1).encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    )

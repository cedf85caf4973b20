"""Keeping the token out of every log and error message.

tweepy logs its request headers at DEBUG, and a server may echo a token in its error text. Whatever this
project says about a reply passes through `REDACT.redact`; what libraries log passes through its filter.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import quote, unquote

_SHORTEST = 8
"""A shorter token is a sample's, and redacting it would take ordinary words away."""


class RedactingFilter(logging.Filter):
    """Takes bearer tokens out of log records, their tracebacks included."""

    _bearer = re.compile(r"(?i)\bbearer\s+[^\s'\",}]+")

    def __init__(self) -> None:
        super().__init__()
        self._secrets: set[str] = set()

    def add(self, secret: str) -> None:
        """Learn a token, as it is and as it looks with its percent signs resolved or escaped."""
        if len(secret) >= _SHORTEST:
            self._secrets |= {secret, unquote(secret), quote(secret, safe="")}

    def redact(self, message: str) -> str:
        """Return the message without any known or likely token."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            message = message.replace(secret, "[redacted]")
        return self._bearer.sub("Bearer [redacted]", message)

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact a record in place and keep it."""
        record.msg, record.args = self.redact(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = self.redact(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


REDACT = RedactingFilter()
# A logger's filter does not see its children's records, so each one that speaks gets its own.
for _name in ("tweepy", "tweepy.client", "tweepy.api", "requests", "urllib3.connectionpool"):
    logging.getLogger(_name).addFilter(REDACT)

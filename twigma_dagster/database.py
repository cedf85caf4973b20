"""The database of Dagster's runs and events, when it does not answer: one line in place of a traceback."""

from __future__ import annotations

from twigma_dagster.settings import load_settings, variable


def unreachable(error: BaseException) -> str | None:
    """Return what to say of an error if it is that the database does not answer; None for any other.

    Dagster has tried again by then, for some seconds.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import OperationalError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OperationalError):
        cause = cause.__cause__ or cause.__context__
    database = load_settings().database
    if cause is None or database is None:
        return None
    place = make_url(database.get_secret_value())
    said = " ".join(str(cause.orig).split())[:200]
    return (
        f"the database {place.database} at {place.host}:{place.port or 5432} ({variable('database')}) "
        f"does not answer: {said}. Start it and run this again: what was built is in the lake and stays"
    )

"""`twigma` with a command for drills: the platform's own build, errors and exit status, of a few assets only.

`python -m tests.drills.collect_month collect MONTH` builds the month's posts and pictures.
"""

from __future__ import annotations

import dagster as dg
import typer

from twigma_core.lake import Lake
from twigma_dagster import cli

TABLES = ("hashtags", "archive_files", "raw_tweets", "tweets", "tweet_media", "images")


@cli.app.command()
def collect(month: str) -> None:
    """Build a month's posts."""
    settings = cli.prepare()
    from twigma_dagster import headless
    from twigma_dagster.definitions import defs

    lake = Lake(settings.lake_root)
    with dg.DagsterInstance.get() as instance:
        outcome = headless.build(defs, instance, lake, [month], cli.console, only=TABLES)
    headless.show_failures(outcome, cli.console)
    raise typer.Exit(1 if outcome.failed else 0)


if __name__ == "__main__":
    cli.main()

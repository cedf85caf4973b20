"""The command line: `twigma demo`, `ui`, `lineage`, `sql`, `settings`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from twigma_dagster.settings import Settings, SettingsError, load_settings, rows

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
console = Console()


def prepare() -> Settings:
    """Read the settings, make the home folder, and point DAGSTER_HOME into it."""
    settings = load_settings()
    home = (settings.home / "dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    ours = Path(__file__).resolve().parents[1] / "dagster.yaml"
    if ours.exists():
        shutil.copyfile(ours, home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["TWIGMA_HOME"] = str(settings.home.resolve())
    return load_settings()


@app.command()
def demo() -> None:
    """Build the whole graph on the sample world, headless; the second time only what is missing."""
    start = time.monotonic()
    settings = prepare()
    if not settings.sample:
        raise SettingsError("the demo builds the sample world; unset TWIGMA_SOURCE")
    console.print("Loading Dagster and the graph …")
    import dagster as dg

    from twigma_core.lake import Lake
    from twigma_core.sample.verify import verify
    from twigma_core.sample.world import load
    from twigma_core.tables import SCHEMAS
    from twigma_dagster import demo as steps
    from twigma_dagster.definitions import defs

    lake = Lake(settings.lake_root)
    with dg.DagsterInstance.get() as instance:
        ran = steps.build(defs, instance, lake, list(load().months), console)
    steps.report_built(lake, list(SCHEMAS), console)
    recovered = steps.report_findings(verify(lake), console)
    console.print(
        f"\n{ran} steps ran, {steps.seconds_since(start)} in all."
        f"\n  figures   {lake.path('figures')}"
        f"\n  report    {lake.path('report', 'index.html')}"
        f"\n  release   {lake.path('releases')}"
        f"\n  SQL       twigma sql 'from dataset limit 5'   (or duckdb {lake.path('twigma.duckdb')})"
        f"\n  UI        make ui"
    )
    raise typer.Exit(0 if recovered else 1)


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on; the UI has no login")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; default is the setting TWIGMA_PORT")] = None,
) -> None:
    """Serve the Dagster UI with its daemon, on loopback."""
    settings = prepare()
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        instance.get_runs(limit=1)  # several processes opening a new home at once would break it
    workspace = str(Path(__file__).resolve().parents[1] / "workspace.yaml")
    number = port or settings.port
    commands = [
        ["-m", "dagster._daemon", "run", "-w", workspace],
        ["-m", "dagster_webserver", "-w", workspace, "-h", host, "-p", str(number)],
    ]
    children = [subprocess.Popen([sys.executable, *command]) for command in commands]
    console.print(f"The UI opens at http://{host}:{number}/asset-groups in a few seconds; Ctrl-C ends it.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while all(child.poll() is None for child in children):
            time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("ending")
    finally:
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
        for child in children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()


@app.command()
def lineage(file: Annotated[Path, typer.Argument(help="A figure (SVG, PNG) or a table (Parquet)")]) -> None:
    """Print what a figure or table came from, read from the file itself."""
    from twigma_core.figures.files import read_provenance

    if not file.exists():
        raise SettingsError(f"{file} does not exist")
    console.print(read_provenance(file.read_bytes()).describe(), highlight=False, markup=False)


@app.command()
def sql(query: Annotated[str, typer.Argument(help="SQL over the tables of the lake")]) -> None:
    """Run a query over the lake's tables with DuckDB and print the result."""
    from twigma_core.catalog import connect
    from twigma_core.lake import Lake

    console.print(str(connect(Lake(prepare().lake_root)).sql(query)), highlight=False, markup=False)


@app.command("settings")
def show_settings(markdown: Annotated[bool, typer.Option(help="As a Markdown table")] = False) -> None:
    """List every setting, its default and its meaning."""
    if markdown:
        lines = ["| variable | default | meaning |", "|---|---|---|"]
        lines += [
            f"| `{name}` | {f'`{default}`' if default else ''} | {text} |" for name, default, text in rows()
        ]
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
        return
    for name, default, text in rows():
        console.print(
            f"{name:<24} {os.environ.get(name) or default or '-':<14} {text}", highlight=False, markup=False
        )


def main() -> None:
    """Run the command line; an error that the user can mend is one line, not a traceback."""
    from twigma_core.lake import MissingPartition

    try:
        app()
    except (SettingsError, MissingPartition, RuntimeError) as error:
        console.print(f"twigma: {error}", style="red", markup=False, highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()

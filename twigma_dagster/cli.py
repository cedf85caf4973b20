"""The command line of the platform; `twigma COMMAND --help` says what a command does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import yaml
from rich.console import Console

from twigma_core.lake import Lake, MissingPartition, table_provenance
from twigma_core.release.policy import PolicyError
from twigma_core.storage import open_storage
from twigma_dagster import publishing
from twigma_dagster.settings import Settings, SettingsError, load_settings, value_in_force, variable

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console()


def prepare() -> Settings:
    """Read the settings, make the home folder, and point DAGSTER_HOME into it."""
    settings = load_settings()
    configure_dagster(settings)
    os.environ["TWIGMA_HOME"] = str(settings.home.resolve())
    return load_settings()


def configure_dagster(settings: Settings) -> None:
    """Write Dagster's own settings into the home folder, and point DAGSTER_HOME to them."""
    home = (settings.home / "dagster").resolve()
    ours = yaml.safe_load((Path(__file__).resolve().parents[1] / "dagster.yaml").read_text())
    ours["concurrency"]["runs"]["max_concurrent_runs"] = settings.gpu_slots + 1
    if settings.database:
        ours["storage"] = {"postgres": {"postgres_url": {"env": variable("database")}}}
    else:
        storage = {"module": "twigma_dagster.sqlite_storage", "class": "SqliteStorage"}
        ours["storage"] = {"custom": storage | {"config": {"base_dir": str(home / "storage")}}}
    # Several processes may start at once: none may read half a file.
    open_storage(home).write("dagster.yaml", yaml.safe_dump(ours, sort_keys=False).encode())
    os.environ["DAGSTER_HOME"] = str(home)


@app.command()
def demo() -> None:
    """Build the whole graph on the sample world, headless; the second time only what is missing."""
    settings = prepare()
    if not settings.sample:
        raise SettingsError("the demo builds the sample world; unset TWIGMA_SOURCE")
    from twigma_core.sample.verify import verify
    from twigma_core.sample.world import load
    from twigma_dagster import headless
    from twigma_dagster.resources import sample_references

    # beside the first months, which leave a core free while they wait for their server
    painter = get_context("spawn").Process(
        target=sample_references, args=(str(settings.home.resolve()),), daemon=True
    )
    painter.start()
    lake, complete, show = _build(list(load().months))
    painter.join()
    recovered = complete and headless.show_findings(verify(lake), console)
    show()
    raise typer.Exit(0 if recovered else 1)


@app.command()
def build(
    first: Annotated[str | None, typer.Argument(help="First month, such as 2021-01")] = None,
    last: Annotated[str | None, typer.Argument(help="Last month; default is the first")] = None,
) -> None:
    """Build the whole graph for a range of months from the source that the settings name.

    Without months: all of the sample, or all that an archive holds. With TWIGMA_SOURCE=none: the reference
    corpora and what compares them.
    """
    settings = prepare()
    from twigma_dagster.partitions import MONTHS

    known = MONTHS.get_partition_keys()
    if first:
        wanted = _range(first, last, known)
    elif settings.source == "archive":
        wanted = _archived(settings, known)
    elif settings.source == "none":
        wanted = []
    elif settings.sample:
        from twigma_core.sample.world import load

        wanted = list(load().months)
    else:
        raise SettingsError("say which months to collect from X, such as: twigma build 2022-08 2022-10")
    if wanted and settings.source == "none":
        raise SettingsError("TWIGMA_SOURCE=none has no posts: say `twigma build` without months")
    _, complete, show = _build(wanted)
    show()
    raise typer.Exit(0 if complete else 1)


def _range(first: str, last: str | None, known: Sequence[str]) -> list[str]:
    if first not in known or (last or first) not in known:
        raise SettingsError(f"{first} to {last or first}: months run from {known[0]} to {known[-1]}")
    return [key for key in known if first <= key <= (last or first)]


@app.command()
def estimate(
    first: Annotated[str, typer.Argument(help="First month, such as 2021-01")],
    last: Annotated[str | None, typer.Argument(help="Last month; default is the first")] = None,
) -> None:
    """Say what collecting a range of months from X will cost, per month and in all, before it is spent.

    Asks X's counts endpoint, one paid request a month and query; what it says is kept, and a collection
    does not ask again. The sample and archives cost nothing.
    """
    settings = prepare()
    from twigma_dagster.estimating import show_estimates
    from twigma_dagster.partitions import MONTHS
    from twigma_dagster.resources import posts_of

    months = _range(first, last, MONTHS.get_partition_keys())
    if settings.source == "archive":
        console.print(
            "An archive costs nothing: its pages are there already. `twigma build` lists what it holds."
        )
        return
    show_estimates(posts_of(settings), Lake(settings.lake_root), months, console)


@app.command()
def retry(
    month: Annotated[str, typer.Argument(help="Month of the pictures, such as 2021-01")],
    ids: Annotated[list[str] | None, typer.Argument(help="Media ids; default is all that failed")] = None,
) -> None:
    """Fetch pictures again alone, those that failed for good included; say what became of each.

    What is stored stays and is not fetched again. `twigma build MONTH` then builds what depends on it.
    """
    settings = prepare()
    lake = Lake(settings.lake_root)
    before = lake.read("images", month)
    from twigma_core.images.download import failed
    from twigma_dagster import headless
    from twigma_dagster.definitions import defs

    wanted = ids or failed(before)
    if not wanted:
        console.print(f"images/{month}: all {before.height} pictures are there")
        return
    with headless.dagsters_storage() as instance:
        outcome = headless.retry(
            defs, instance, month, wanted, lambda line: console.print(line, markup=False)
        )
    headless.show_failures(outcome, console)
    if not outcome.failed:
        after = lake.read("images", month)
        headless.show_pictures(after.filter(after["image_id"].is_in(wanted)), console)
    raise typer.Exit(1 if outcome.failed else 0)


@app.command()
def hydrate(
    file: Annotated[Path, typer.Argument(help="Ids: text, CSV, Parquet, or a release")],
    accounts: Annotated[
        bool, typer.Option("--accounts", help="Ask for accounts too: tells protected from suspended")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Spend without being asked")] = False,
    pictures: Annotated[
        bool, typer.Option(help="Of a release, rebuild posts and pictures too, and say what is left of it")
    ] = True,
) -> None:
    """Turn ids into posts through X's lookup, each bought once, and say which are gone and why.

    A release comes back as tables of posts and as pictures, so far as X still serves them; a file of ids
    alone as replies, which `twigma build` takes. Says first what it will cost. With neither a token nor a
    source it asks the sample world's server.
    """
    settings = prepare()
    from twigma_dagster.hydrating import hydrate_file
    from twigma_dagster.resources import posts_of

    source = "sample" if settings.sample and settings.bearer_token is None else "x"
    posts = posts_of(settings.model_copy(update={"source": source}))
    lake = Lake(settings.lake_root)
    complete = hydrate_file(posts, lake, file, console, accounts=accounts, yes=yes)
    if pictures:
        from twigma_dagster.rebuilding import rebuild

        complete = rebuild(settings, lake, file, source, console) and complete
    raise typer.Exit(0 if complete else 1)


def _archived(settings: Settings, known: Sequence[str]) -> list[str]:
    """Say what the archive holds; return the months of its posts that the dataset can have."""
    from twigma_core.collect.imports import months
    from twigma_dagster.resources import posts_of

    lake = Lake(settings.lake_root)
    for row in posts_of(settings).files(lake).iter_rows(named=True):
        span = f" {row['first_month']} to {row['last_month']}" if row["first_month"] else ""
        said = f": {row['note']}" if row["note"] else ""
        counts = f"{row['pages']} pages, {row['posts']} posts{span}, {row['broken']} broken"
        console.print(f"{row['file']}  {counts}{said}", highlight=False, markup=False, soft_wrap=True)
    held = months(settings.archive, lake)
    if outside := sorted(set(held) - set(known)):
        console.print(f"left out: posts of {', '.join(outside)}: not within {known[0]} to {known[-1]}")
    return [key for key in held if key in known]


def _build(months: list[str]) -> tuple[Lake, bool, Callable[[], None]]:
    """Build these months; return the lake, whether all went well, and what prints where to look."""
    start = time.monotonic()
    console.print("Loading Dagster and the graph …")
    from twigma_core.tables import SCHEMAS
    from twigma_dagster import headless
    from twigma_dagster.definitions import defs

    settings = load_settings()
    lake = Lake(settings.lake_root)
    with headless.dagsters_storage() as instance:
        far, paid = settings.gpu_lane != "local", settings.source == "x"
        outcome = headless.build(defs, instance, lake, months, console, lanes=far, talk=paid)
    headless.show_built(lake, list(SCHEMAS), console)
    if settings.source == "none" and outcome.skipped:
        console.print(f"{len(outcome.skipped)} assets need posts and are not built: TWIGMA_SOURCE=none")
        outcome.skipped = []
    headless.show_failures(outcome, console)
    show = partial(headless.show_places, lake, outcome.ran, time.monotonic() - start, console)
    return lake, not outcome.failed and not outcome.skipped, show


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on; the UI has no login")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; default is the setting TWIGMA_PORT")] = None,
) -> None:
    """Serve the Dagster UI with its daemon, on loopback."""
    settings = prepare()
    if not (Path(os.environ["DAGSTER_HOME"]) / "storage").exists() or settings.database:
        from twigma_dagster import headless

        with headless.dagsters_storage():
            pass  # made before two processes open it at once
    workspace = str(Path(__file__).resolve().parents[1] / "workspace.yaml")
    number = port or settings.port
    page = ["-m", "dagster_webserver", "-w", workspace, "-h", host, "-p", str(number)]
    daemon = ["-m", "dagster._daemon", "run", "-w", workspace]
    console.print(f"The UI opens at http://{host}:{number}/asset-groups in a few seconds; Ctrl-C ends it.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    children = [subprocess.Popen([sys.executable, *page])]
    try:
        # Both load the graph. The page is waited for, so it has the cores to itself until it is there.
        patience = time.monotonic() + 60
        while children[0].poll() is None and time.monotonic() < patience and not _listens(host, number):
            time.sleep(0.2)
        children.append(subprocess.Popen([sys.executable, *daemon]))
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


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="What to look for, as a caption would say it")],
    month: Annotated[list[str] | None, typer.Option(help="Month to look in; may be repeated")] = None,
    count: Annotated[int, typer.Option("--count", "-k", help="Pictures")] = 20,
) -> None:
    """List the pictures of the dataset that CLIP finds nearest to a text."""
    settings = prepare()
    from twigma_core.gallery.search import find
    from twigma_dagster import headless
    from twigma_dagster.resources import models_of

    try:
        found = find(Lake(settings.lake_root), models_of(settings).encoder(), text, month, count)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    headless.show_found(found, console)


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port on loopback")] = 3080,
) -> None:
    """Serve the gallery on loopback: pictures by month and cluster, or by words."""
    settings = prepare()
    import uvicorn

    from twigma_core.gallery.app import build_app
    from twigma_dagster.resources import models_of, study_of

    notices = tuple(study_of(settings).notices)
    console.print(f"The gallery opens at http://127.0.0.1:{port}/ ; Ctrl-C ends it.", highlight=False)
    gallery = build_app(Lake(settings.lake_root), models_of(settings).encoder, notices)
    uvicorn.run(gallery, host="127.0.0.1", port=port, log_level="warning")


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(
    command: Annotated[
        list[str], typer.Argument(help="A command, such as: dagster job list -w workspace.yaml")
    ],
) -> None:
    """Run a command of Dagster's own on this platform's home, with these settings."""
    prepare()
    beside = Path(sys.executable).with_name(command[0])  # Dagster's commands stand beside this one
    program = str(beside) if beside.exists() else command[0]
    try:
        os.execvp(program, [program, *command[1:]])
    except FileNotFoundError:
        raise SettingsError(f"{command[0]}: there is no such command") from None


@app.command()
def lineage(file: Annotated[Path, typer.Argument(help="A figure (SVG, PNG) or a table (Parquet)")]) -> None:
    """Print what a figure or table came from, read from the file itself."""
    from twigma_core.figures.files import read_provenance

    if not file.exists():
        raise SettingsError(f"{file} does not exist")
    made = table_provenance(file) if file.suffix == ".parquet" else read_provenance(file.read_bytes())
    console.print(made.describe(), highlight=False, markup=False, soft_wrap=True)


@app.command()
def sql(query: Annotated[str, typer.Argument(help="SQL over the tables of the lake")]) -> None:
    """Run a query over the lake's tables with DuckDB and print the result."""
    from twigma_core.catalog import connect

    console.print(str(connect(Lake(prepare().lake_root)).sql(query)), highlight=False, markup=False)


app.add_typer(publishing.app, name="publish")
models = typer.Typer(help="List, fetch and verify the models' weights; without a command, list them.")
app.add_typer(models, name="models")


@models.callback(invoke_without_command=True)
def list_models(context: typer.Context) -> None:
    """List the models in force and those of the paper, and where their weights are."""
    if context.invoked_subcommand is None:
        from twigma_dagster.weights import show_models

        show_models(prepare(), console)


@models.command("fetch")
def fetch_models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Such as ViT-L-14/openai; default is all that are in force")
    ] = None,
) -> None:
    """Fetch weights into the weights folder, and check them."""
    from twigma_dagster.weights import fetch_weights

    fetch_weights(prepare(), names or [], console)


@models.command("verify")
def verify_models() -> None:
    """Hash the files in the weights folder and compare them with what they must be."""
    from twigma_dagster.weights import show_verified

    raise typer.Exit(0 if show_verified(prepare(), console) else 1)


@app.command("settings")
def show_settings() -> None:
    """List every setting with the value in force and its meaning."""
    prepare()
    for name, field in Settings.model_fields.items():
        line = f"{variable(name):<24} {value_in_force(name) or '-':<14} {field.description}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command line; an error that the user can mend is one line, not a traceback."""
    try:
        app()
    except (SettingsError, MissingPartition, PolicyError, RuntimeError) as error:
        _end_with(str(error))
    except Exception as error:
        from twigma_dagster.database import unreachable

        if (said := unreachable(error)) is None:
            raise
        _end_with(said)


def _end_with(words: str) -> NoReturn:
    console.print(f"twigma: {words}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(2)


if __name__ == "__main__":
    main()

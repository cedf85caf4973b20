"""`twigma models`: which models the settings name, where their weights are, fetching and verifying them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from twigma_core.models import weights
from twigma_core.models.fetch import FetchError, fetch
from twigma_core.models.names import defaults, model_named
from twigma_dagster.settings import Settings, SettingsError


def named_by(settings: Settings) -> dict[str, str]:
    """Return the models that the settings name, by the part they play."""
    clip = settings.clip
    if not _is_here(clip):
        file = settings.clip_weights
        clip = file if Path(file).expanduser().exists() else f"{clip}/{file}"
    return {"clip": clip, "blip": settings.blip, "nsfw": settings.nsfw}


def in_force(settings: Settings) -> list[weights.Model]:
    """Return those of them that are published."""
    return [_model(name) for name in named_by(settings).values() if not _is_here(name)]


def show_models(settings: Settings, console: Console) -> None:
    """Print the models in force and those of the paper, and where their weights are."""
    root = Path(settings.weights_folder)
    shown = Table(title=f"Models; weights folder {root}", title_justify="left")
    for column in ("", "model", "weights"):
        shown.add_column(column, overflow="fold")
    missing = False
    for part, name in named_by(settings).items():
        if _is_here(name):
            shown.add_row(part, name, "ships with the project" if name == weights.SAMPLE else "at its path")
        else:
            missing |= _add(shown, f"{part}, in force", _model(name), root)
    chosen = {model.name for model in in_force(settings)}
    for model in defaults():
        if model.name not in chosen:
            _add(shown, f"{model.kind}, of the paper", model, root)
    console.print(shown)
    if missing:
        console.print("Fetch what is in force and missing with: twigma models fetch", highlight=False)


def fetch_weights(settings: Settings, names: list[str], console: Console) -> None:
    """Fetch these models, or those in force that are published, or those of the paper if none is.

    Raises:
        SettingsError: a name is unknown, or a model cannot be had; the message says which file to put where.
    """
    root = Path(settings.weights_folder)

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    failed = []
    for model in [_model(name) for name in names] or in_force(settings) or defaults():
        try:
            file = weights.find(model, root) or fetch(model, root, say)
            found = weights.check(model, file, root)
        except (FetchError, weights.WeightsMismatch) as error:
            failed.append(f"{model.name}: {error}; {weights.cure(model, root)}")
        else:
            say(f"{model.name}: {found.file} sha256 {found.sha256}")
    if failed:
        raise SettingsError("\n".join(failed))


def show_verified(settings: Settings, console: Console) -> bool:
    """Print the state of each known file of the weights folder; say whether all are as they must be."""
    root = Path(settings.weights_folder)
    states = weights.verify(root)
    for file, state in states.items():
        console.print(f"{state:<8} {file}", highlight=False, markup=False, soft_wrap=True)
    if not states:
        console.print(f"No weights in {root}: nothing to verify.", highlight=False, soft_wrap=True)
    return all(state == "ok" for state in states.values())


def _is_here(name: str) -> bool:
    return name == weights.SAMPLE or Path(name).expanduser().exists()


def _model(name: str) -> weights.Model:
    try:
        return model_named(name)
    except (ValueError, weights.WeightsNotFound) as error:
        raise SettingsError(str(error)) from error


def _add(shown: Table, part: str, model: weights.Model, root: Path) -> bool:
    """Add a row; say whether the weights are missing."""
    file = weights.find(model, root)
    where = f"{file} {file.stat().st_size / 1e6:,.1f} MB" if file else "not on this machine"
    shown.add_row(part, model.name, where)
    return file is None

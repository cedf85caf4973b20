"""`twigma models`, and the steps that run a model, as Dagster runs them."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from safetensors.numpy import save

from tests.dagster.small_world import drawn, world
from tests.model_hub import Hub
from twigma_core.lake import ArrayTable, Lake
from twigma_core.models import blip, clip, weights
from twigma_dagster import cli, headless
from twigma_dagster.checks import vectors_are_of_one_model
from twigma_dagster.definitions import build_defs
from twigma_dagster.graph import Batch, stale
from twigma_dagster.resources import Models, Posts
from twigma_dagster.settings import Settings

NAME = "ViT-L-14/openai"
PUBLISHED = "timm/vit_large_patch14_clip_224.openai/open_clip_model.safetensors"
KEPT = "ViT-L-14-openai/open_clip_model.safetensors"
CONTENT = save({})

Twigma = Callable[..., tuple[int, str]]


@pytest.fixture
def twigma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Twigma:
    """Run the command line in this process; gives its exit code and what it printed, in one line."""
    for name, value in {"TWIGMA_HOME": tmp_path, "DAGSTER_HOME": tmp_path, "TWIGMA_SOURCE": "x"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("TWIGMA_WEIGHTS", raising=False)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["twigma", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return code if isinstance(code, int) else int(code is not None), " ".join(
            capsys.readouterr().out.split()
        )

    return run


def outside(settings: Settings) -> tuple[Models, Posts]:
    """Return what decides beside the lake whether a table is up to date."""
    resources = build_defs(settings).resources or {}
    return resources["models"], resources["posts"]


def test_models_are_listed_fetched_and_verified(twigma: Twigma, hub: Hub, tmp_path: Path) -> None:
    code, said = twigma("models")
    assert (code, said.count("not on this machine")) == (0, 3)
    assert hub.asked == [], "listing asks nobody"
    code, said = twigma("models", "fetch", NAME)
    assert code == 2
    assert "EntryNotFound" in said
    hub.files[PUBLISHED] = CONTENT
    code, said = twigma("models", "fetch", NAME)
    assert code == 0, said
    assert said.endswith(f"{KEPT} sha256 {hashlib.sha256(CONTENT).hexdigest()}")
    hub.asked.clear()
    assert twigma("models", "fetch", NAME)[0] == 0
    assert hub.asked == [], "what is here is not fetched again"
    assert twigma("models")[1].count("not on this machine") == 2
    assert twigma("models", "verify") == (0, f"ok {KEPT}")
    (tmp_path / "weights" / KEPT).write_bytes(CONTENT + b" ")
    assert twigma("models", "verify") == (1, f"changed {KEPT}")
    code, said = twigma("models", "fetch", NAME)
    assert code == 2
    assert "it had at its first use" in said


def test_offline_each_missing_model_says_which_file_to_put_where(
    twigma: Twigma, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("twigma_core.models.fetch.LAION", "http://127.0.0.1:9")  # nothing listens there
    code, said = twigma("models", "fetch")
    assert code == 2
    place = "/".join(str(tmp_path / "weights").split())
    for part in (
        f"{NAME}: HF_HUB_OFFLINE is set",
        "put open_clip_model.safetensors of the hub's repository timm/vit_large_patch14_clip_224.openai",
        "put model.safetensors, config.json, preprocessor_config.json, tokenizer.json of the hub's",
        "nsfw_vit_l_14: http://127.0.0.1:9/clip_autokeras_binary_nsfw.zip could not be had",
        "sha256 fbd76a2d058e0eac292492b2271e469728e7c80e2f70e21d17a87552abd9e625",
    ):
        assert part in said
    assert place in said.replace(" ", "")
    code, said = twigma("models", "fetch", "ViT-L-14/no-such-tag")
    assert code == 2
    assert "'ViT-L-14/no-such-tag' is not a published model" in said


def test_late_pictures_alone_go_through_the_models(tmp_path: Path) -> None:
    """A month built, then built again with three more pictures; what each step says of it."""
    early = {n: drawn(n) for n in range(1, 13)}
    late = {**early, **{n: drawn(n) for n in range(13, 16)}}
    steps = ("raw_tweets", "tweets", "tweet_media", "images", "embeddings", "captions", "nsfw_scores")
    shown: dict[str, dict[str, object]] = {}
    with dg.DagsterInstance.ephemeral() as instance:
        for pictures in (early, late):
            laid_out = world(tmp_path / str(len(pictures)), {"2021-01": pictures}, references=0)
            with laid_out as (laid, _):
                settings = laid.model_copy(update={"home": tmp_path / "home"})
                lake = Lake(settings.lake_root)
                job = build_defs(settings).resolve_implicit_global_asset_job_def()
                outcome = headless.Outcome()
                headless.run(job, instance, Batch(("hashtags",), None), outcome, lambda _: None)
                headless.run(job, instance, Batch(steps, "2021-01"), outcome, lambda _: None)
                assert outcome.failed == []
                assert stale(lake, Batch(steps, "2021-01"), *outside(settings)) == []
        # Another model than the one that made them is another reason to make them again.
        other = tmp_path / "another-clip"
        shutil.copytree(weights.sample_weights("clip"), other)
        changed = settings.model_copy(update={"clip_model": str(other)})
        assert stale(lake, Batch(steps, "2021-01"), *outside(changed)) == ["embeddings", "nsfw_scores"]
        for name in ("embeddings", "captions", "nsfw_scores"):
            event = instance.get_latest_materialization_event(dg.AssetKey(name))
            assert event is not None and event.asset_materialization is not None
            shown[name] = {key: value.value for key, value in event.asset_materialization.metadata.items()}
    passed, seen = vectors_are_of_one_model(lake, "2021-01")
    assert passed and seen.startswith("sample-clip ")
    mixed = lake.read_arrays("embeddings", "2021-01")
    other_month = mixed.table.with_columns(month=pl.lit("2021-02"), weights_sha256=pl.lit("another"))
    lake.write("embeddings", ArrayTable(other_month, mixed.arrays), "2021-02")
    passed, seen = vectors_are_of_one_model(lake, "2021-01")
    assert not passed and "sample-clip another cpu" in seen
    for name, metadata in shown.items():
        assert (metadata["computed"], metadata["taken over"], metadata["resumed"]) == (3, 12, 0), name
        assert metadata["dagster/row_count"] == 15
    for name, batch in (("embeddings", clip.ON_CPU), ("captions", blip.ON_CPU)):
        assert str(shown[name]["device"]).endswith("cores")
        assert str(shown[name]["settings"]).startswith(f"cpu float32 batch {batch}")
        assert float(str(shown[name]["per second"])) > 0
        assert str(shown[name]["forward pass ran"]).endswith("% of the time")

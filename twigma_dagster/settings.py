"""Every setting of the platform, in one place: environment variables, their defaults and what they mean.

`Settings()` reads the environment; docs/settings.md is generated from the descriptions here
(`twigma settings --markdown`). Secrets are read here too and are never part of Dagster's configuration.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "TWIGMA_"


class SettingsError(ValueError):
    """A setting is missing, unknown or wrong; the message names it and the cure."""


class Settings(BaseSettings):
    """Settings, each an environment variable named TWIGMA_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, populate_by_name=True)

    home: Path = Field(Path(".twigma"), description="Folder of everything that the platform writes")
    lake: str = Field(
        "",
        description="Root of the lake: a folder, or s3://bucket/prefix, which the standard AWS_* variables "
        "reach (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL); empty is HOME/lake",
    )
    database: SecretStr | None = Field(
        None,
        description="PostgreSQL for Dagster's runs and events, as "
        "postgresql+psycopg2://user:password@host/name; empty is SQLite in HOME",
    )
    source: Literal["sample", "x", "archive", "none"] = Field(
        "sample",
        description="Where posts come from: the shipped sample world, X's API, an archive; or none, which "
        "compares the reference corpora alone",
    )
    bearer_token: SecretStr | None = Field(
        None, validation_alias="X_BEARER_TOKEN", description="Token of X's API, for source=x"
    )
    archive: str = Field(
        "", description="Archive of posts for source=archive: a file or folder; see docs/collecting.md"
    )
    release_2023: str = Field(
        "", description="CSV of the 2023 release to set beside ours; empty is any that ARCHIVE holds"
    )
    x_search: Literal["all", "recent"] = Field(
        "all", description="X's search: the full archive, or the last seven days, which any token may ask"
    )
    price_post: float = Field(
        0.005, ge=0, description="Dollars that X charges for a post with all that comes along with it"
    )
    price_count: float = Field(0.010, ge=0, description="Dollars that X charges for a request for counts")
    price_account: float = Field(
        0.010, ge=0, description="Dollars that X charges for an account that is looked up"
    )
    budget: float | None = Field(
        100.0,
        ge=0,
        description="Most dollars that posts and counts from X may cost in all, over all months of the lake; "
        "a collection stops before it might cost more. `none` is no cap",
    )
    count_tolerance: float = Field(
        0.02, ge=0, le=1, description="Share of the posts that X counts which may be gone by now"
    )
    likes: Literal["collected", "settled"] = Field(
        "collected",
        description="Engagement numbers of all analyses: as collected, or of each post's latest snapshot",
    )
    x_api: str = Field("", description="Address to use instead of X's API (a test server); empty is X")
    media_base: str = Field(
        "", description="Address to fetch pictures from instead of pbs.twimg.com; empty is X"
    )
    connections: int = Field(32, ge=1, le=512, description="Pictures that are fetched at once")
    references: str = Field(
        "", description="Folder with one folder of pictures a corpus; empty is the sample's"
    )
    texts: str = Field("", description="Folder with one file a text source; empty is REFERENCES/texts")
    reference_limit: int = Field(100_000, ge=1, description="Most pictures taken of a reference corpus")
    clip_model: str = Field(
        "",
        description="CLIP: a name of open_clip, a folder, or `sample`; empty is ViT-L-14 but for the sample",
    )
    clip_weights: str = Field("openai", description="Pretrained tag of open_clip, or safetensors file")
    blip_model: str = Field("", description="BLIP: a hub name, a folder, or `sample`; empty as CLIP_MODEL")
    nsfw_weights: str = Field(
        "", description="NSFW head: a pinned name, a file, or `sample`; empty as CLIP_MODEL"
    )
    weights: str = Field(
        "", description="Folder of model weights, see `twigma models`; empty is HOME/weights"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models run; auto is all GPUs there are, else the CPU"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Precision of the models; auto is float16 on a GPU, float32 on a CPU"
    )
    batch_size: int = Field(0, ge=0, description="Pictures of a batch; 0 is the model's default")
    first_month: str = Field("2021-01", description="First month of the dataset, as YYYY-MM")
    clusters: int = Field(10, ge=2, description="Clusters of the theme model")
    seed: int = Field(0, ge=0, description="Seed of every random choice")
    gpu_lane: Literal["local", "ray", "k8s"] = Field(
        "local", description="Where GPU steps run: this machine, a Ray cluster, Kubernetes jobs"
    )
    gpu_slots: int = Field(1, ge=1, description="GPU steps at once, over all runs")
    cpu_slots: int = Field(1, ge=1, description="Other steps at once in a run, each in a process of its own")
    gpus_per_step: float = Field(1, ge=0, description="GPUs that a step asks of Ray or Kubernetes")
    gpu_wait_minutes: int = Field(
        60,
        ge=1,
        description="Minutes that a GPU step may wait for a GPU of Ray or Kubernetes before it fails",
    )
    ray_address: str = Field("", description="Ray's job server, such as http://ray:8265")
    k8s_image: str = Field("", description="Image of the GPU steps; empty is that of the code location")
    k8s_namespace: str = Field("default", description="Namespace of the GPU steps' jobs")
    k8s_service_account: str = Field("", description="Service account of the GPU steps' jobs")
    k8s_node_selector: str = Field("", description="Labels of nodes for GPU steps, as key=value,key=value")
    release_profile: Literal["ids_strict", "paper_compat"] = Field(
        "ids_strict", description="Columns that a release holds"
    )
    release_version: str = Field(
        "",
        pattern=r"^(\d+\.\d+\.\d+)?$",
        description="Version of the next release, as 1.0.0; empty counts on from the last one",
    )
    release_authors: str = Field(
        "", description="Who publishes the release, names separated by semicolons: card, citation, Croissant"
    )
    zenodo: str = Field(
        "https://zenodo.org",
        description="Zenodo, for `twigma publish zenodo`; https://sandbox.zenodo.org is for trying",
    )
    zenodo_token: SecretStr | None = Field(
        None, validation_alias="ZENODO_TOKEN", description="Token of Zenodo, for `twigma publish zenodo`"
    )
    hf_token: SecretStr | None = Field(
        None, validation_alias="HF_TOKEN", description="Token of the hub, for `twigma publish hub`"
    )
    port: int = Field(3000, ge=1, le=65535, description="Port of the UI on loopback")

    @field_validator("budget", mode="before")
    @classmethod
    def _may_be_none(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value

    @field_validator("first_month")
    @classmethod
    def _is_month(cls, value: str) -> str:
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", value):
            raise ValueError(f"{value!r} is not a month; write it as 2021-01")
        return value

    @field_validator("database")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        # Dagster hands the address to SQLAlchemy, which takes another driver if none is named.
        if value and not value.get_secret_value().startswith("postgresql+psycopg2://"):
            raise ValueError("write it as postgresql+psycopg2://user:password@host/name")
        return value or None

    @field_validator("k8s_node_selector")
    @classmethod
    def _is_selector(cls, value: str) -> str:
        if value and not all(re.fullmatch(r"[^=,]+=[^=,]+", pair) for pair in value.split(",")):
            raise ValueError(f"{value!r} is not a node selector; write it as key=value,key=value")
        return value

    @field_validator("x_api", "media_base", "ray_address", "zenodo")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not re.match(r"https?://", value):
            raise ValueError(f"{value!r} is not an address; write it as http://127.0.0.1:8000")
        if "@" in value:
            raise ValueError("leave out the login: an address is shown in figures and reports")
        return value.rstrip("/")

    @field_validator("lake")
    @classmethod
    def _has_no_login(cls, value: str) -> str:
        if "://" in value and "@" in value:
            raise ValueError("leave out the login: it belongs into AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY")
        return value

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> Settings:
        if self.source == "archive" and not self.archive:
            raise ValueError("source=archive needs TWIGMA_ARCHIVE: the file or folder to read posts from")
        return self

    @property
    def lake_root(self) -> str:
        """Root of the lake, absolute where it is a folder."""
        if "://" in self.lake:
            return self.lake
        return str(Path(self.lake or self.home / "lake").resolve())

    @property
    def weights_folder(self) -> str:
        """Folder of model weights, absolute."""
        return str(Path(self.weights or self.home / "weights").expanduser().resolve())

    @property
    def node_selector(self) -> dict[str, str]:
        """Labels that the nodes of GPU steps must have."""
        return dict(pair.split("=") for pair in self.k8s_node_selector.split(",") if pair)

    @property
    def sample(self) -> bool:
        """Whether the data are the synthetic sample, which every figure then says."""
        return self.source == "sample"

    @property
    def clip(self) -> str:
        """CLIP model in force."""
        return self.clip_model or ("sample" if self.sample else "ViT-L-14")

    @property
    def blip(self) -> str:
        """BLIP model in force."""
        return self.blip_model or ("sample" if self.sample else "Salesforce/blip-image-captioning-large")

    @property
    def nsfw(self) -> str:
        """NSFW head in force."""
        return self.nsfw_weights or {"sample": "sample", "ViT-B-32": "nsfw_vit_b_32"}.get(
            self.clip, "nsfw_vit_l_14"
        )

    @property
    def notice(self) -> str:
        """What a reader of the results must be told first; empty for posts with their own pictures."""
        if not self.media_base:
            return ""
        return (
            f"Pictures came from {self.media_base}, not from X: that they belong to their posts is its claim."
        )

    def token(self) -> str:
        """Return the bearer token of X's API.

        Raises:
            SettingsError: it is not set.
        """
        if self.bearer_token is None or not self.bearer_token.get_secret_value().strip():
            raise SettingsError("no X bearer token; set X_BEARER_TOKEN or choose TWIGMA_SOURCE=archive")
        return self.bearer_token.get_secret_value()

    def secret(self, name: str, cure: str) -> str:
        """Return the value of a secret setting.

        Raises:
            SettingsError: it is not set; the message names its variable and the cure.
        """
        value: SecretStr | None = getattr(self, name)
        if value is None or not value.get_secret_value().strip():
            raise SettingsError(f"{variable(name)} is not set; {cure}")
        return value.get_secret_value()


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else PREFIX + name.upper()


def secrets() -> set[str]:
    """Return the variables of the settings that are secret."""
    return {
        variable(name)
        for name, field in Settings.model_fields.items()
        if field.annotation == SecretStr | None
    }


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: a value is wrong, or a TWIGMA_ variable is unknown (often a slip of the pen).
    """
    known = {variable(name) for name in Settings.model_fields} | {"TWIGMA_SHARED"}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see `twigma settings`"
            raise SettingsError(f"{name} is not a setting; {hint}")
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            place = str(problem["loc"][0]) if problem["loc"] else ""
            name = variable(place) if place in Settings.model_fields else place
            lines.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}".removeprefix(": "))
        raise SettingsError("; ".join(lines)) from None


def value_in_force(name: str) -> str:
    """Return a setting as the environment has it, or its default; of a secret only that it is set."""
    field = Settings.model_fields[name]
    value = os.environ.get(variable(name), "") or ("" if field.default is None else str(field.default))
    return "(set)" if value and variable(name) in secrets() else value


def rows() -> list[tuple[str, str, str]]:
    """Return (variable, default, meaning) of each setting."""
    return [
        (variable(name), "" if field.default is None else str(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def markdown() -> str:
    """Return all settings as a Markdown table."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {f'`{default}`' if default else ''} | {text} |" for name, default, text in rows()
    ]
    return "\n".join(lines)

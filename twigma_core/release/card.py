"""What a release says about itself: who publishes it, the dataset card, and the citation.

The statements on collection, bias and use are written once, in `STATEMENTS`; the card and the Croissant
metadata both take them from there. Numbers come from the released table, never from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from twigma_core.release.table import describe_columns

PAPER = (
    "@inproceedings{chen2023twigma, title={TWIGMA: A dataset of AI-generated images with metadata from "
    "Twitter}, author={Chen, Yiqun T. and Zou, James}, booktitle={Advances in Neural Information Processing "
    "Systems, Datasets and Benchmarks Track}, year={2023}}"
)
SHARED_IDS_LIMIT = 1_500_000
"""Ids that X's stricter policy lets one recipient have in 30 days."""

STATEMENTS = {
    "collection": "Public posts that carry at least one of a reviewed list of hashtags of image generators "
    "and at least one picture, through X's API, month by month. Pictures are fetched from the addresses "
    "that the API gives.",
    "preprocessing": "Exact duplicates (same media id, same file, same pixels) are one row: the first "
    "posting. Pictures that could not be fetched or decoded are left out and counted by reason.",
    "annotation": "Captions come from BLIP; not-safe-for-work scores from a detector on CLIP embeddings; "
    "cluster labels from k-means and map coordinates from UMAP on the same embeddings. No person has "
    "checked them row by row.",
    "biases": "Users of X who name their generator in a hashtag are not all who make pictures with one. The "
    "mix of generators, languages and themes follows the platform's users. Captions, scores and labels "
    "inherit the biases of the models that made them.",
    "limitations": "A hashtag is no proof that a picture was generated. Counts of likes, replies and quotes "
    "are a snapshot. Deleted posts are missing, so that older months are less complete than newer ones.",
    "sensitive": "Post ids lead to public posts of persons while these are online. No text, no author and no "
    "picture is included. Some posts hold adult or disturbing content: filter on nsfw_score, and on "
    "possibly_sensitive where the profile has it.",
    "uses": "Studying themes, variation and reception of generated pictures over time. Not for identifying, "
    "profiling or contacting persons.",
    "maintenance": "A new version is published when months are added or posts have been deleted. Who "
    "rehydrates the ids must drop what X no longer serves, and honour deletions within 24 hours.",
}
SYNTHETIC = (
    "Made from a synthetic sample: drawn pictures and simulated posts. None of the ids exists on X, "
    "and the numbers say nothing about the world."
)


@dataclass(frozen=True)
class Publication:
    """Who publishes a release, and as what.

    Attributes:
        title: title of the dataset.
        authors: names of those who publish it.
        license: SPDX identifier for the released tables; the pictures' rights stay with their authors.
        url: where the release can be had; None where it is not to be had yet.
        published: day of publication; None leaves it out.
        synthetic: whether the posts are a made-up sample; card, citation and metadata then say so.
        notice: what else a reader must be told first, e.g. that some pairing was invented.
    """

    title: str = "AI-generated pictures posted on X"
    authors: tuple[str, ...] = ("The maintainers of this TWIGMA lake",)
    license: str = "CC-BY-4.0"
    url: str | None = None
    published: date | None = None
    synthetic: bool = False
    notice: str = ""

    @property
    def license_url(self) -> str:
        """Address of the licence's text."""
        return f"https://spdx.org/licenses/{self.license}"

    @property
    def summary(self) -> str:
        """Two sentences that describe the dataset."""
        return (
            f"{self.title}: ids of posts and pictures with captions, cluster labels, map coordinates and "
            "not-safe-for-work scores computed from the pictures. The method is that of TWIGMA (Chen and "
            "Zou, 2023)."
        )

    @property
    def notices(self) -> list[str]:
        """What a reader must be told before anything else."""
        return [text for text in (SYNTHETIC if self.synthetic else "", self.notice) if text]


def dataset_card(
    table: pl.DataFrame,
    sha256: str,
    profile: str,
    version: str,
    publication: Publication,
    before: str | None = None,
) -> str:
    """Return README.md: a dataset card whose YAML head lets `datasets.load_dataset(folder)` work as it is.

    Args:
        table: the released table.
        sha256: of its Parquet file.
        profile: its profile.
        version: version of the release.
        publication: who publishes it.
        before: version of the release before it; None for the first.
    """
    import jinja2
    import yaml

    head = {
        "pretty_name": publication.title,
        "license": publication.license.lower(),
        "language": ["en"],
        "size_categories": [_size_category(table.height)],
        "tags": ["ai-generated-images", "social-media", "metadata"],
        "configs": [
            {
                "config_name": "default",
                # `datasets` caches under the folder's name and a hash of this entry alone: without the digest
                # a second lake's 1.0.0 would be answered with the first one's rows
                "description": f"profile {profile}, sha256 {sha256}",
                "data_files": [{"split": "train", "path": "data/twigma.parquet"}],
            }
        ],
    }
    months = table["month"] if "month" in table.columns else table["created_at"].dt.strftime("%Y-%m")
    source = (Path(__file__).parent / "templates" / "card.md").read_text(encoding="utf-8")
    # Markdown, not HTML: nothing of the posts is on the card, only names from the settings and counts.
    environment = jinja2.Environment(
        autoescape=False, undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(source).render(
        head=yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(),
        publication=publication,
        statements=STATEMENTS,
        profile=profile,
        version=version,
        before=before,
        rows=table.height,
        first=months.min(),
        last=months.max(),
        columns=[(name, text, table[name].null_count()) for name, _, text in describe_columns(profile)],
        limit=SHARED_IDS_LIMIT,
        paper=PAPER,
    )


def citation(version: str, publication: Publication) -> str:
    """Return CITATION.cff, in the Citation File Format 1.2."""
    import yaml

    fields: dict[str, object] = {
        "cff-version": "1.2.0",
        "message": "Cite this release, and the paper whose method it follows.",
        "type": "dataset",
        "title": f"{publication.title} (synthetic sample)" if publication.synthetic else publication.title,
        "version": version,
        "authors": [{"name": name} for name in publication.authors],
        "license": publication.license,
    }
    if publication.url:
        fields["url"] = publication.url
    if publication.published:
        fields["date-released"] = publication.published.isoformat()
    fields["references"] = [
        {
            "type": "conference-paper",
            "title": "TWIGMA: A dataset of AI-Generated Images with Metadata From Twitter",
            "authors": [
                {"family-names": "Chen", "given-names": "Yiqun T."},
                {"family-names": "Zou", "given-names": "James"},
            ],
            "year": 2023,
            "conference": {"name": "NeurIPS 2023 Datasets and Benchmarks Track"},
        }
    ]
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def _size_category(rows: int) -> str:
    steps = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]
    return next((name for limit, name in steps if rows < limit), "1M<n<10M")

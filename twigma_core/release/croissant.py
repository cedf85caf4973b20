"""Croissant metadata of a release, with the responsible-AI fields, through mlcroissant.

See mlcommons.org/croissant (format 1.0) and its RAI vocabulary 1.0.
"""

from __future__ import annotations

import json
from datetime import datetime

import polars as pl

from twigma_core.release.card import PAPER, STATEMENTS, Publication
from twigma_core.release.table import describe_columns

FORMAT = "http://mlcommons.org/croissant/1.0"
RAI = "http://mlcommons.org/croissant/RAI/1.0"


def croissant(
    table: pl.DataFrame, sha256: str, size: int, profile: str, version: str, publication: Publication
) -> str:
    """Return croissant.json, which mlcroissant validates and loads the records of the Parquet file from.

    Args:
        table: the released table.
        sha256: of `data/twigma.parquet`.
        size: of that file, in bytes.
        profile: the table's profile.
        version: version of the release, MAJOR.MINOR.PATCH.
        publication: who publishes it.

    Text fields come back from mlcroissant as bytes: that is its way with Parquet.

    Raises:
        mlcroissant.ValidationError: the version or another field is not what Croissant allows.
    """
    import mlcroissant as mlc

    file = mlc.FileObject(
        id="twigma.parquet",
        name="twigma.parquet",
        description="The released table.",
        content_url="data/twigma.parquet",
        content_size=f"{size} B",
        encoding_formats=["application/x-parquet"],
        sha256=sha256,
    )
    fields = [
        mlc.Field(
            id=f"pictures/{name}",
            name=name,
            description=text,
            data_types=[_data_type(table.schema[name])],
            source=mlc.Source(file_object="twigma.parquet", extract=mlc.Extract(column=name)),
        )
        for name, _, text in describe_columns(profile)
    ]
    published = publication.published
    metadata = mlc.Metadata(
        ctx=mlc.Context(conforms_to=FORMAT),
        conforms_to=[FORMAT, RAI],
        name="twigma",
        description=" ".join([publication.summary, *publication.notices]),
        version=version,
        license=[publication.license_url],
        url=publication.url,
        cite_as=PAPER,
        creators=[mlc.Organization(name=name) for name in publication.authors],
        date_published=datetime(published.year, published.month, published.day) if published else None,
        keywords=["AI-generated images", "social media", "CLIP", "BLIP"],
        distribution=[file],
        record_sets=[mlc.RecordSet(id="pictures", name="pictures", description="Pictures.", fields=fields)],
        data_collection=STATEMENTS["collection"],
        data_collection_type=["Synthetic"] if publication.synthetic else ["Web API", "Social media"],
        data_preprocessing_protocol=[STATEMENTS["preprocessing"]],
        data_annotation_protocol=[STATEMENTS["annotation"]],
        machine_annotation_tools=["BLIP", "CLIP", "k-means", "UMAP"],
        data_biases=[STATEMENTS["biases"]],
        data_limitations=[STATEMENTS["limitations"]],
        data_use_cases=[STATEMENTS["uses"]],
        personal_sensitive_information=[STATEMENTS["sensitive"]],
        data_release_maintenance_plan=STATEMENTS["maintenance"],
    )
    return json.dumps(metadata.to_json(), indent=2, ensure_ascii=False, default=str) + "\n"


def _data_type(dtype: pl.DataType) -> str:
    import mlcroissant as mlc

    if dtype == pl.Boolean:
        return mlc.DataType.BOOL
    if dtype.is_integer():
        return mlc.DataType.INTEGER
    if dtype.is_float():
        return mlc.DataType.FLOAT
    return mlc.DataType.DATETIME if isinstance(dtype, pl.Datetime) else mlc.DataType.TEXT

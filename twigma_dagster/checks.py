"""Asset checks: what a careful data engineer would want to know of each table.

A blocking check stops what depends on the table. Each reads what is stored, so it can be run again on its
own after the fact. What a table must look like alone is its schema in `twigma_core.tables`, checked for
every table; how tables must fit together is checked here by name.
"""

import hashlib
from collections.abc import Callable

import dagster as dg
import numpy as np
import polars as pl

from twigma_core.analysis.cluster_model import drift_share
from twigma_core.analysis.projection import far_from_map
from twigma_core.collect.completeness import explain
from twigma_core.collect.tombstones import Gone
from twigma_core.images.shards import read_picture
from twigma_core.incremental import MAKER
from twigma_core.lake import Lake
from twigma_core.purge import released, traces
from twigma_core.tables import SCHEMAS, conform
from twigma_dagster.declare import COMPUTE, CPU
from twigma_dagster.partitions import MONTHS, PARTITIONS, REFERENCE_CORPORA, SOURCES_OF_TEXT
from twigma_dagster.resources import LakeResource

Verdict = tuple[bool, str]
CUT_BY = {MONTHS: "month", REFERENCE_CORPORA: "corpus", SOURCES_OF_TEXT: "source"}
"""Column that holds the partition."""
MAX_DRIFT = 0.05
MAX_FAILED = 0.02


def check(
    name: str, asset: str, blocking: bool = True
) -> Callable[[Callable[[Lake, str | None], Verdict]], dg.AssetChecksDefinition]:
    """Make an asset check of a function of the lake and the partition that returns (passed, seen)."""

    def declare(function: Callable[[Lake, str | None], Verdict]) -> dg.AssetChecksDefinition:
        @dg.asset_check(
            asset=asset,
            name=name,
            description=function.__doc__,
            blocking=blocking,
            partitions_def=PARTITIONS.get(asset),
            op_tags={COMPUTE: CPU},
        )
        def run_check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
            partition = context.partition_key if asset in PARTITIONS else None
            passed, seen = function(lake.open(), partition)
            severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
            return dg.AssetCheckResult(passed=passed, severity=severity, metadata={"seen": seen})

        return run_check

    return declare


def fits_schema(asset: str) -> dg.AssetChecksDefinition:
    """Return the check that a stored table has its columns, types, ranges and unique keys."""

    def stored_fits(lake: Lake, partition: str | None) -> Verdict:
        frame = lake.read(asset, partition)
        try:
            conform(asset, frame)
        except Exception as error:
            return False, str(error)
        column = CUT_BY[PARTITIONS[asset]] if asset in PARTITIONS else None
        strange = frame.filter(pl.col(column) != partition).height if column else 0
        if strange:
            return False, f"{strange} rows are not of {column} {partition}"
        return True, f"{frame.height} rows fit"

    stored_fits.__doc__ = "Columns, types and ranges are those of the contract, and keys are unique."
    return check("schema", asset)(stored_fits)


@check("no_orphans", "tweet_media")
def media_have_posts(lake: Lake, month: str | None) -> Verdict:
    """Every picture belongs to a post of the month, and every post has the pictures it says."""
    media, posts = lake.read("tweet_media", month), lake.read("tweets", month)
    orphans = media.join(posts, on="tweet_id", how="anti").height
    counted = int(posts["media_count"].sum())
    return not orphans and counted == media.height, f"{orphans} orphans; {media.height} of {counted} pictures"


@check("complete", "tweet_counts", blocking=False)
def collection_is_complete(lake: Lake, month: str | None) -> Verdict:
    """What was collected agrees with what X counts, day by day, within the tolerance."""
    return explain(lake.read("tweet_counts", month))


@check("no_trace", "tombstones")
def nothing_is_left(lake: Lake, _: str | None) -> Verdict:
    """No file of the lake names what must be gone, and no shard holds a picture of it."""
    gone = Gone.of(lake)
    left = traces(lake, gone) if gone else []
    what = f"{len(gone.posts)} posts, {len(gone.authors)} authors, {len(gone.pictures)} pictures"
    return not left, f"{what}; left: {'; '.join(left[:5]) or 'nothing'}"


@check("no_trace", "release")
def releases_hold_nothing_taken_back(lake: Lake, _: str | None) -> Verdict:
    """No release in the lake holds a post that must be gone; upload the new one where an old one went."""
    found = released(lake, Gone.of(lake))
    return not found, f"releases that hold one: {', '.join(found) or 'none'}"


@check("every_picture_has_a_row", "images")
def ledger_is_complete(lake: Lake, month: str | None) -> Verdict:
    """The ledger holds each media id of the month once."""
    wanted = set(lake.read("tweet_media", month)["image_id"])
    have = lake.read("images", month)["image_id"].to_list()
    missing = len(wanted - set(have))
    return not missing and len(have) == len(set(have)), f"{missing} missing of {len(wanted)}"


@check("few_failed", "images", blocking=False)
def few_pictures_failed(lake: Lake, month: str | None) -> Verdict:
    """Few pictures failed for a passing reason; materialize again, or `twigma retry`, to have the others."""
    ledger = lake.read("images", month)
    failed = ledger.filter(pl.col("status") == "failed")
    share = failed.height / max(ledger.height, 1)
    why = failed["reason"].value_counts(sort=True).head(1)["reason"].to_list()
    return (
        share <= MAX_FAILED,
        f"{failed.height} of {ledger.height} failed{f', most: {why[0]}' if why else ''}",
    )


@check("bytes_as_recorded", "images")
def stored_bytes_match(lake: Lake, month: str | None) -> Verdict:
    """A sample of twenty pictures, read from their shards, has the recorded sha256."""
    return _bytes_match(lake, lake.read("images", month))


@check("bytes_as_recorded", "reference_images")
def reference_bytes_match(lake: Lake, corpus: str | None) -> Verdict:
    """A sample of twenty pictures, read from their shards, has the recorded sha256."""
    return _bytes_match(lake, lake.read("reference_images", corpus))


def _bytes_match(lake: Lake, ledger: pl.DataFrame) -> Verdict:
    kept = ledger.filter(pl.col("status") == "ok")
    sample = kept.sample(min(20, kept.height), seed=0)
    wrong = [
        row["image_id"]
        for row in sample.iter_rows(named=True)
        if hashlib.sha256(read_picture(lake, row["shard"], row["offset"], row["bytes"])).hexdigest()
        != row["sha256"]
    ]
    return not wrong, f"{sample.height} of {kept.height} read; wrong: {wrong[:5] or 'none'}"


@check("unit_norms", "embeddings")
def vectors_are_normalised(lake: Lake, month: str | None) -> Verdict:
    """One finite vector of length 1 for each picture that opened."""
    wanted = lake.read("images", month).filter(pl.col("status") == "ok").height
    return _unit_norms(lake, "embeddings", month, wanted)


@check("unit_norms", "reference_embeddings")
def reference_vectors_are_normalised(lake: Lake, corpus: str | None) -> Verdict:
    """One finite vector of length 1 for each picture that opened."""
    wanted = lake.read("reference_images", corpus).filter(pl.col("status") == "ok").height
    return _unit_norms(lake, "reference_embeddings", corpus, wanted)


@check("unit_norms", "text_embeddings")
def text_vectors_are_normalised(lake: Lake, source: str | None) -> Verdict:
    """One finite vector of length 1 for each text."""
    return _unit_norms(lake, "text_embeddings", source, lake.read("texts", source).height)


def _unit_norms(lake: Lake, name: str, partition: str | None, wanted: int) -> Verdict:
    stored = lake.read_arrays(name, partition)
    norms = np.linalg.norm(np.asarray(stored.vectors, dtype=np.float64), axis=1)
    far = float(np.abs(norms - 1).max()) if len(norms) else 0.0
    passed = len(norms) == stored.table.height == wanted and bool(np.isfinite(norms).all()) and far < 1e-3
    return passed, f"{len(norms)} vectors for {wanted} rows; largest |norm - 1| {far:.1e}"


def vectors_are_of_one_model(lake: Lake, month: str | None) -> Verdict:
    """The same CLIP with the same settings made the vectors of all months, corpora and texts."""
    ours = set(lake.read("embeddings", month).select(MAKER).iter_rows())
    others = [
        lake.scan(name).select(MAKER).unique().collect()
        for name in ("embeddings", "reference_embeddings", "text_embeddings")
    ]
    found = set(pl.concat(others).iter_rows())
    names = sorted(f"{model} {sha256[:12]} {settings}" for model, sha256, settings in found)
    return len(found) <= 1 or not ours, "; ".join(names) or "no vectors"


all_vectors_are_of_one_model = check("same_model", "embeddings", blocking=False)(vectors_are_of_one_model)


@check("covers_pictures", "captions")
def every_picture_has_a_caption(lake: Lake, month: str | None) -> Verdict:
    """Each picture that opened has a caption that is not empty."""
    pictures = lake.read("images", month).filter(pl.col("status") == "ok")
    written = lake.read("captions", month).filter(pl.col("caption").str.strip_chars() != "")
    missing = pictures.join(written, on="image_id", how="anti").height
    return not missing, f"{missing} of {pictures.height} without a caption"


@check("covers_pictures", "nsfw_scores")
def every_picture_has_a_score(lake: Lake, month: str | None) -> Verdict:
    """Each vector of the month has a score."""
    vectors, scores = lake.read("embeddings", month), lake.read("nsfw_scores", month)
    missing = vectors.join(scores, on="image_id", how="anti").height
    return not missing, f"{missing} of {vectors.height} without a score"


@check("all_accounted_for", "drops")
def every_posted_picture_is_accounted_for(lake: Lake, month: str | None) -> Verdict:
    """Each picture of each post is in the dataset or among the drops, exactly once."""
    posted = lake.read("tweet_media", month).select("tweet_id", "image_id")
    kept = lake.read("dataset", month).select("tweet_id", "image_id")
    dropped = lake.read("drops", month).select("tweet_id", "image_id")
    found = pl.concat([kept, dropped])
    lost = posted.join(found, on=["tweet_id", "image_id"], how="anti").height
    passed = not lost and found.height == posted.height and not found.is_duplicated().any()
    return passed, f"{posted.height} posted = {kept.height} kept + {dropped.height} dropped; {lost} lost"


@check("first_posting_wins", "dataset")
def no_picture_is_in_two_months(lake: Lake, month: str | None) -> Verdict:
    """No picture of the month is in another month's dataset, by media id or by file."""
    ours = lake.read("dataset", month).select("image_id", "sha256")
    others = lake.scan("dataset").filter(pl.col("month") != month).select("image_id", "sha256").collect()
    same_id = ours.join(others, on="image_id", how="semi").height
    same_file = ours.join(others, on="sha256", how="semi").height
    return not same_id and not same_file, f"{same_id} by media id, {same_file} by file"


@check("counts_the_dataset", "summaries")
def summary_counts_the_dataset(lake: Lake, month: str | None) -> Verdict:
    """The summary is of as many pictures as the dataset has."""
    counted, rows = int(lake.read("summaries", month)["count"][0]), lake.read("dataset", month).height
    return counted == rows, f"{counted} summarised, {rows} in the dataset"


@check("covers_dataset", "clusters")
def every_picture_has_a_cluster(lake: Lake, month: str | None) -> Verdict:
    """Each picture of the dataset has a cluster of the frozen model in force."""
    pictures, labels = lake.read("dataset", month), lake.read("clusters", month)
    missing = pictures.join(labels, on="image_id", how="anti").height
    versions = set(labels["version"]) - set(lake.read("cluster_model")["version"])
    return (
        not missing and not versions,
        f"{missing} of {pictures.height} missing; other versions: {versions or 'none'}",
    )


@check("no_drift", "clusters", blocking=False)
def clusters_still_fit(lake: Lake, month: str | None) -> Verdict:
    """Few pictures are farther from their centroid than the 99th percentile at the fit.

    Of few pictures a share says little: it fails where the interval's lower end is beyond the limit too.
    """
    labels = lake.read("clusters", month)
    if labels.is_empty():
        return True, "no pictures"
    radius = lake.read("cluster_model").sort("cluster")["radius_p99"].to_numpy()
    share = drift_share(labels["distance"].to_numpy(), labels["cluster"].to_numpy(), radius)
    return _drift(round(share * labels.height), labels.height)


def _drift(far: int, n: int) -> Verdict:
    # here: at the top of the file it would cost every start of the graph about a second
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(far, n, method="wilson")
    return low <= MAX_DRIFT, f"{far / n:.1%} ({low:.1%} to {high:.1%}) are farther; limit {MAX_DRIFT:.0%}"


@check("no_drift", "projection", blocking=False)
def map_still_fits(lake: Lake, month: str | None) -> Verdict:
    """Few pictures are farther from the map's sample than 99 % of its pictures are from one another."""
    ids = lake.read("projection", month)["image_id"]
    if ids.is_empty():
        return True, "no pictures"
    vectors = lake.read_arrays("embeddings", month).take(ids).vectors
    far = far_from_map(lake.read_arrays("projection_model").arrays, vectors)
    return _drift(int(far.sum()), len(far))


@check("finite", "divergence_matrix")
def divergences_are_sane(lake: Lake, _: str | None) -> Verdict:
    """KL and Jensen-Shannon divergences are finite and not negative."""
    table = lake.read("divergence_matrix").filter(pl.col("measure").str.contains("^(kl|js)"))
    bad = table.filter(~pl.col("value").is_finite() | (pl.col("value") < 0)).height
    return not bad and table.height > 0, f"{bad} of {table.height} are not"


@check("every_pair_or_a_reason", "divergence_robustness")
def robustness_is_complete(lake: Lake, _: str | None) -> Verdict:
    """Each variant has every pair of sources, each with a value or with the reason why there is none."""
    table = lake.read("divergence_robustness")
    pairs = table.select("source_p", "source_q").unique().height
    short = table.group_by("variant").len().filter(pl.col("len") != pairs).height
    silent = table.filter(pl.col("value").is_null(), pl.col("reason").is_null()).height
    seen = (
        f"{table['variant'].n_unique()} variants of {pairs} pairs; {short} short, {silent} without a reason"
    )
    return not short and not silent and table.height > 0, seen


SCHEMA_CHECKS = [fits_schema(name) for name in SCHEMAS]

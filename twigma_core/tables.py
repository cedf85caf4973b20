"""The columns of every table: the contract that all other modules refer to.

One dataframely schema a table, named as the asset that makes it, with a sentence for each column.
Nothing is computed here. `SCHEMAS` finds a schema by its asset's name; `conform` casts a frame to one
and refuses what does not fit.

Conventions: ids are text, never floats; `month` is text such as "2021-01" and equals the partition key;
`corpus` is a reference corpus; times are UTC; a table made by a model carries the model's name and the
sha256 of its weights; `low` and `high` are the ends of a 95 % interval.
"""

from __future__ import annotations

import re

import dataframely as dy
import polars as pl

MONTH = r"^\d{4}-(0[1-9]|1[0-2])$"
IMAGE_STATUSES = ("ok", "unavailable", "refused", "undecodable", "failed")
GONE = (
    *("deleted", "deactivated", "protected", "suspended", "withheld", "scrubbed", "not authorized"),
    *("unavailable", "opt out"),
)
CORPORA = ("laion", "artbench", "diffusiondb")
TEXT_SOURCES = ("captions", "haiku", "prompts", "tweets", "news", "book")


def _month(primary_key: bool = False) -> dy.String:
    return dy.String(regex=MONTH, primary_key=primary_key, description="Month of the post, UTC, as YYYY-MM")


def _utc(description: str) -> dy.Datetime:
    return dy.Datetime(time_zone="UTC", time_unit="us", description=description)


def _when(description: str) -> dy.Datetime:
    """Return a column for the moment of a run, which says nothing about the content of its row."""
    return dy.Datetime(time_zone="UTC", time_unit="us", description=description, metadata={"volatile": True})


def _count(description: str, nullable: bool = False) -> dy.Int64:
    return dy.Int64(min=0, nullable=nullable, description=description)


def _model() -> dy.String:
    return dy.String(description="Name of the model that made the row")


def _weights() -> dy.String:
    return dy.String(description="sha256 of the model's weights")


def _settings() -> dy.String:
    return dy.String(description="Device, precision and batch of the model, which decide a row's last bits")


def _file() -> dy.String:
    return dy.String(description="sha256 of the picture file that the row was made of")


def _low() -> dy.Float64:
    return dy.Float64(nullable=True, allow_inf=True, description="Lower end of the 95 % interval")


def _high() -> dy.Float64:
    return dy.Float64(nullable=True, allow_inf=True, description="Upper end of the 95 % interval")


def _reason() -> dy.String:
    return dy.String(
        nullable=True, description="Why value or interval is missing or open; null where neither is"
    )


# ---------------------------------------------------------------- collection


class Hashtags(dy.Schema):
    """The reviewed hashtags that a collection searches for (paper, Section 3)."""

    hashtag = dy.String(primary_key=True, regex=r"^[^#\s]+$", description="Hashtag, lower case, without #")
    source = dy.String(description="Where the entry comes from")
    reviewed = dy.Date(description="Day it was reviewed")
    note = dy.String(nullable=True, description="Reviewer's remark")


class HashtagCandidates(dy.Schema):
    """Hashtags that co-occur with the reviewed ones, ranked for review (paper, Section 3)."""

    hashtag = dy.String(primary_key=True, description="Candidate, lower case, without #")
    posts = _count("Collected posts that carry it")
    authors = _count("Authors of these posts")
    share = dy.Float64(min=0, max=1, description="Share of all collected posts that carry it")
    score = dy.Float64(min=0, description="Rank: posts times the growth of their share, later over earlier")
    growth = dy.Float64(nullable=True, description="Posts in the last month divided by posts in the first")
    first_posts = dy.List(dy.String(), description="Ids of its first 20 posts, for review")


class ArchiveFiles(dy.Schema):
    """What the archive of posts holds, file by file, those that are not read included."""

    file = dy.String(primary_key=True, description="File, relative to the archive")
    digest = dy.String(description="xxh3 of the file as it is")
    pages = _count("API replies, flattened posts, or pages made of a table's rows")
    posts = _count("Posts on them; one that is on several counts each time")
    media = _count("Media objects, videos included")
    users = _count("User objects")
    errors = _count("Errors that X reports on them")
    first_month = dy.String(nullable=True, regex=MONTH, description="Month of the earliest post, UTC")
    last_month = dy.String(nullable=True, regex=MONTH, description="Month of the latest post, UTC")
    broken = _count("Documents or kinds of rows that cannot be read")
    note = dy.String(nullable=True, description="What is broken, or why the file is not read")


class RawTweets(dy.Schema):
    """One row a page as received: where it is stored and what it holds."""

    month = _month(primary_key=True)
    query = dy.String(primary_key=True, description="Query, or the archive file that the page comes from")
    page = dy.Int64(primary_key=True, min=0, description="Number of the page within the query")
    source = dy.String(description="x, sample or archive")
    path = dy.String(description="File of the compressed page, relative to the lake's root")
    posts = _count("Posts on the page")
    bytes = _count("Uncompressed size of the page in bytes")
    sha256 = dy.String(description="sha256 of the uncompressed page")
    next_token = dy.String(nullable=True, description="Token of the page after this one; null on the last")
    newest_id = dy.String(nullable=True, description="Newest post id on the page")
    oldest_id = dy.String(nullable=True, description="Oldest post id on the page")
    fetched_at = _when("When the page was received")
    status = dy.String(description="ok, or corrupt")
    reason = dy.String(nullable=True, description="Why a page is corrupt")


class Tweets(dy.Schema):
    """One row a post."""

    tweet_id = dy.String(primary_key=True, description="Post id, as text")
    month = _month()
    author_id = dy.String(nullable=True, description="Author's user id, as text")
    created_at = _utc("When it was posted")
    text = dy.String(description="Full text of the post")
    lang = dy.String(nullable=True, description="Language that X detected")
    hashtags = dy.List(dy.String(), description="All hashtags of the post, lower case")
    matched_hashtags = dy.List(dy.String(), description="Those of them on the reviewed list")
    possibly_sensitive = dy.Bool(nullable=True, description="X's flag for sensitive media")
    like_count = _count("Likes when collected; null where X gave none", nullable=True)
    reply_count = _count("Replies when collected", nullable=True)
    quote_count = _count("Quotes when collected", nullable=True)
    retweet_count = _count("Reposts when collected", nullable=True)
    followers = _count("Author's followers when collected; null where unknown", nullable=True)
    media_count = _count("Pictures attached")
    collected_at = _when("When the page holding it was received")


class TweetMedia(dy.Schema):
    """One row a picture of a post: the same picture in two posts is two rows."""

    tweet_id = dy.String(primary_key=True, description="Post id")
    image_id = dy.String(primary_key=True, description="Media id, as text")
    month = _month()
    position = dy.Int64(min=0, description="Place of the picture in the post, from 0")
    created_at = _utc("When the post was posted")
    url = dy.String(nullable=True, description="Address of the picture; null where X gave none")
    width = dy.Int64(nullable=True, description="Width in pixels, as X states it")
    height = dy.Int64(nullable=True, description="Height in pixels, as X states it")
    alt_text = dy.String(nullable=True, description="Author's description of the picture")


class TweetCounts(dy.Schema):
    """What X counts per day, and what explains its difference to what was collected.

    counted = collected + unavailable + unexplained. X's counts are not filtered for deleted posts.
    """

    month = _month()
    query = dy.String(primary_key=True, description="Query that was counted")
    day = dy.Date(primary_key=True, description="Day, UTC")
    counted = _count("Posts that X counts on that day")
    collected = _count("Posts of that day that this query brought, each once")
    duplicates = _count("Times that one of them came again on another page of this query")
    shared = _count("Of the collected, those that another query brought before")
    unavailable = _count("Missing within the tolerance: deleted, protected or suspended since")
    unexplained = dy.Int64(description="Missing beyond it; negative where more was collected than counted")
    tolerance = dy.Float64(min=0, max=1, description="Share of the counted posts that may be missing")


class Snapshots(dy.Schema):
    """The engagement numbers of the month's posts, each time that they were taken: likes settle."""

    tweet_id = dy.String(primary_key=True, description="Post id")
    snapshot = dy.Int64(
        primary_key=True, min=0, description="Number of the snapshot; 0 is the collection's own"
    )
    month = _month()
    taken_at = _when("When the numbers were received from X")
    like_count = _count("Likes; null where X gave none", nullable=True)
    reply_count = _count("Replies", nullable=True)
    quote_count = _count("Quotes", nullable=True)
    retweet_count = _count("Reposts", nullable=True)


class Tombstones(dy.Schema):
    """Posts and accounts that must not be here: their ids alone, and why, so that none comes back."""

    kind = dy.Enum(["post", "author"], primary_key=True, description="What the id is of")
    id = dy.String(primary_key=True, regex=r"^[0-9]{1,19}$", description="Post id or user id")
    status = dy.Enum(list(GONE), description="What X, or the author, says of it")
    source = dy.String(description="File that said so first, below the lake's inbox")
    month = dy.String(nullable=True, regex=MONTH, description="Month it was in here; null where it was not")
    image_ids = dy.List(dy.String(), description="Media ids that the post had here")
    noted_at = _when("When it was first read")


class Release2023(dy.Schema):
    """The 2023 release of TWIGMA as published (zenodo.org/records/8031785), by media id."""

    image_id = dy.String(primary_key=True, description="Media id that image_name holds")
    tweet_id = dy.String(nullable=True, description="Post id; null where the file lost its last digits")
    image_name = dy.String(description="Name of the picture in the release")
    url = dy.String(nullable=True, description="Address of the picture, where its name is that of X's file")
    month = dy.String(nullable=True, regex=MONTH, description="Month of the post, UTC, as YYYY-MM")
    created_at = dy.Datetime(
        nullable=True, time_zone="UTC", time_unit="us", description="When it was posted, to the second"
    )
    like_count = _count("Likes in May 2023; null where the post was gone by then", nullable=True)
    quote_count = _count("Quotes in May 2023", nullable=True)
    reply_count = _count("Replies in May 2023", nullable=True)
    caption = dy.String(nullable=True, description="BLIP's caption")
    cluster = dy.Int64(nullable=True, min=1, max=10, description="Cluster of the paper, 1 to 10")
    possibly_sensitive = dy.Bool(nullable=True, description="X's flag for sensitive media")
    nsfw_score = dy.Float64(nullable=True, min=0, max=1, description="0 safe, 1 not safe")
    x = dy.Float64(nullable=True, description="UMAP_dim_1")
    y = dy.Float64(nullable=True, description="UMAP_dim_2")


# ---------------------------------------------------------------- images


class Images(dy.Schema):
    """The fetch ledger: one row a media id of the month, whatever became of it."""

    image_id = dy.String(primary_key=True, description="Media id")
    month = _month()
    url = dy.String(nullable=True, description="Address that was asked last")
    status = dy.Enum(list(IMAGE_STATUSES), description="What became of it")
    reason = dy.String(nullable=True, description="Why it is not ok, in words")
    http_status = dy.Int64(
        nullable=True, description="Last HTTP status; null where no answer came", metadata={"volatile": True}
    )
    attempts = dy.Int64(min=0, description="Requests made", metadata={"volatile": True})
    sha256 = dy.String(nullable=True, description="sha256 of the file's bytes")
    pixel_sha256 = dy.String(nullable=True, description="sha256 of the decoded RGB pixels and their size")
    bytes = dy.Int64(nullable=True, min=0, description="File size in bytes")
    format = dy.String(nullable=True, description="Format of the file by its content, e.g. JPEG")
    width = dy.Int64(nullable=True, min=1, description="Width in pixels")
    height = dy.Int64(nullable=True, min=1, description="Height in pixels")
    shard = dy.String(nullable=True, description="Tar shard that holds the file, relative to the lake's root")
    offset = dy.Int64(nullable=True, min=0, description="First byte of the file within the shard")
    fetched_at = _when("When it was last tried")


# ---------------------------------------------------------------- features


class Embeddings(dy.Schema):
    """Row i describes row i of the array stored beside the table: (n, d) float32, l2-normalised."""

    image_id = dy.String(primary_key=True, description="Picture")
    month = _month()
    sha256 = _file()
    model = _model()
    weights_sha256 = _weights()
    settings = _settings()


class Fingerprints(dy.Schema):
    """A few numbers for each embedding, by which later months find the same picture without reading it.

    Row i describes row i of the array stored beside the table, (n, 12) float32, and row i of `embeddings`.
    """

    image_id = dy.String(primary_key=True, description="Picture")
    month = _month()
    sha256 = dy.String(description="sha256 of the picture file that was embedded")
    digest = dy.String(description="xxh3 hash of the vector in `embeddings`")
    model = _model()
    weights_sha256 = _weights()


class Captions(dy.Schema):
    """What BLIP sees in each picture."""

    image_id = dy.String(primary_key=True, description="Picture")
    month = _month()
    sha256 = _file()
    caption = dy.String(description="Caption")
    model = _model()
    weights_sha256 = _weights()
    settings = _settings()


class NsfwScores(dy.Schema):
    """Predicted probability that a picture is not safe for work (paper reference [4])."""

    image_id = dy.String(primary_key=True, description="Picture")
    month = _month()
    sha256 = _file()
    nsfw_score = dy.Float32(min=0, max=1, description="0 safe, 1 not safe")
    model = _model()
    weights_sha256 = _weights()
    settings = _settings()


# ---------------------------------------------------------------- dataset


class Dataset(dy.Schema):
    """The deduplicated picture table: one row a unique picture, with the post that showed it first."""

    image_id = dy.String(primary_key=True, description="Picture")
    tweet_id = dy.String(description="Post that showed it first")
    month = _month()
    author_id = dy.String(nullable=True, description="Author of that post")
    created_at = _utc("When that post was posted")
    text = dy.String(description="Text of that post")
    hashtags = dy.List(dy.String(), description="Hashtags of that post")
    image_name = dy.String(nullable=True, description="File name in the picture's address")
    like_count = _count("Likes of the post", nullable=True)
    reply_count = _count("Replies to the post", nullable=True)
    quote_count = _count("Quotes of the post", nullable=True)
    retweet_count = _count("Reposts of the post", nullable=True)
    followers = _count("Author's followers", nullable=True)
    possibly_sensitive = dy.Bool(nullable=True, description="X's flag for sensitive media")
    width = dy.Int64(min=1, description="Width in pixels")
    height = dy.Int64(min=1, description="Height in pixels")
    sha256 = dy.String(description="sha256 of the picture file")
    shard = dy.String(description="Tar shard that holds the file")
    offset = dy.Int64(min=0, description="First byte of the file within the shard")
    bytes = _count("File size in bytes")
    caption = dy.String(description="BLIP's caption")
    nsfw_score = dy.Float32(min=0, max=1, nullable=True, description="0 safe, 1 not safe")


class Lookalikes(dy.Schema):
    """Pairs of pictures with the same embedding, over all months so far, or nearly the same, within a month.

    Identical pairs make the later picture a duplicate. Near ones are reported, never removed.
    """

    image_id = dy.String(primary_key=True, description="Picture, the later of the two")
    month = _month()
    other_id = dy.String(primary_key=True, description="Picture, the earlier of the two")
    other_month = dy.String(
        primary_key=True, regex=MONTH, description="Month in which the other was compared"
    )
    cosine = dy.Float64(min=-1, max=1, description="Cosine of the two embeddings")
    identical = dy.Bool(description="Whether they count as identical: cosine of at least 1 - 1e-6")


class Drops(dy.Schema):
    """Each posted picture that is not in the dataset, with the reason and, of a duplicate, the survivor."""

    tweet_id = dy.String(primary_key=True, description="Post")
    image_id = dy.String(primary_key=True, description="Picture")
    month = _month()
    reason = dy.Enum(
        [
            "same media id",
            "same file",
            "same pixels",
            "same embedding",
            "unavailable",
            "refused",
            "undecodable",
            "failed",
        ],
        description="Why it is not in the dataset",
    )
    survivor_id = dy.String(nullable=True, description="Picture kept instead; null where none is")
    survivor_tweet_id = dy.String(nullable=True, description="Post of the picture kept instead")


class Summaries(dy.Schema):
    """Scalars of a month's `EmbeddingSummary`; the summary itself is the array file beside the table."""

    month = _month(primary_key=True)
    count = _count("Pictures summarised")
    dim = _count("Dimensions of the embeddings")
    sampled = _count("Pictures in the bottom-k sample")
    mean_pairwise_distance = dy.Float64(nullable=True, description="From the sample; null below two pictures")
    inverse_explained_variance = dy.Float64(nullable=True, description="From the second moments")
    product_of_marginal_variances = dy.Float64(nullable=True, description="From the second moments")
    quantized_entropy = dy.Float64(nullable=True, description="Of the codebook histogram, nats")


# ---------------------------------------------------------------- references


class ReferenceImages(dy.Schema):
    """One row a picture of a reference corpus, whatever became of it."""

    image_id = dy.String(primary_key=True, description="Picture's id within the corpus")
    corpus = dy.String(primary_key=True, description="Reference corpus")
    status = dy.Enum(list(IMAGE_STATUSES), description="What became of it")
    reason = dy.String(nullable=True, description="Why it is not ok")
    title = dy.String(nullable=True, description="Title or caption")
    artist = dy.String(nullable=True, description="Artist, where the corpus names one")
    style = dy.String(nullable=True, description="Style or genre, where the corpus names one")
    prompt = dy.String(nullable=True, description="Prompt it was generated from")
    prompt_id = dy.String(nullable=True, description="Same for all pictures of one prompt")
    sha256 = dy.String(nullable=True, description="sha256 of the file's bytes")
    pixel_sha256 = dy.String(nullable=True, description="sha256 of the decoded RGB pixels and their size")
    bytes = dy.Int64(nullable=True, min=0, description="File size in bytes")
    format = dy.String(nullable=True, description="Format of the file by its content")
    width = dy.Int64(nullable=True, min=1, description="Width in pixels")
    height = dy.Int64(nullable=True, min=1, description="Height in pixels")
    shard = dy.String(nullable=True, description="Tar shard that holds the file, relative to the lake's root")
    offset = dy.Int64(nullable=True, min=0, description="First byte of the file within the shard")


class ReferenceEmbeddings(dy.Schema):
    """Row i describes row i of the array stored beside the table: (n, d) float32, l2-normalised."""

    image_id = dy.String(primary_key=True, description="Picture")
    corpus = dy.String(primary_key=True, description="Reference corpus")
    sha256 = _file()
    artist = dy.String(nullable=True, description="Artist, where the corpus names one")
    prompt_id = dy.String(nullable=True, description="Same for all pictures of one prompt")
    nsfw_score = dy.Float32(min=0, max=1, nullable=True, description="0 safe, 1 not safe")
    model = _model()
    weights_sha256 = _weights()
    settings = _settings()


class ReferenceSummaries(dy.Schema):
    """Scalars of a corpus's `EmbeddingSummary`; the summary itself is the array file beside the table."""

    corpus = dy.String(primary_key=True, description="Reference corpus")
    count = _count("Pictures summarised")
    dim = _count("Dimensions of the embeddings")
    sampled = _count("Pictures in the bottom-k sample")
    mean_pairwise_distance = dy.Float64(nullable=True, description="From the sample; null below two pictures")
    inverse_explained_variance = dy.Float64(nullable=True, description="From the second moments")
    product_of_marginal_variances = dy.Float64(nullable=True, description="From the second moments")
    quantized_entropy = dy.Float64(nullable=True, description="Of the codebook histogram, nats")


class Texts(dy.Schema):
    """Texts that prompts are compared with (paper, Figure 3d)."""

    text_id = dy.String(primary_key=True, description="Id within the source")
    source = dy.String(primary_key=True, description="captions, haiku, prompts, tweets, news or book")
    text = dy.String(description="Cleaned text: no links, no hashtags")
    words = _count("Number of words")


class TextEmbeddings(dy.Schema):
    """Row i describes row i of the array stored beside the table: (n, d) float32, l2-normalised."""

    text_id = dy.String(primary_key=True, description="Id within the source")
    source = dy.String(primary_key=True, description="Text source")
    words = _count("Number of words")
    sha256 = dy.String(description="sha256 of the text, in UTF-8")
    model = _model()
    weights_sha256 = _weights()
    settings = _settings()


# ---------------------------------------------------------------- themes


class ClusterModel(dy.Schema):
    """The frozen k-means model: row i describes centroid i of the (k, d) array beside the table."""

    cluster = dy.Int64(primary_key=True, min=1, description="Label, from 1")
    version = dy.String(description="Hash of the centroids: the model's version")
    pictures = _count("Pictures of the fit in this cluster")
    radius_p99 = dy.Float64(description="99th percentile of the distance to the centroid at the fit")
    inertia = dy.Float64(description="Sum of squared distances of the whole fit")
    starts = _count("Random starts tried")
    seed = dy.Int64(description="Seed of the fit")
    previous_version = dy.String(nullable=True, description="Version that it replaced; null on the first")
    previous_cluster = dy.Int64(
        nullable=True, min=1, description="Label that its pictures had under that version"
    )
    kept = dy.Float64(
        nullable=True, min=0, max=1, description="Share of that label's pictures that are in this cluster"
    )


class ClusterSensitivity(dy.Schema):
    """What other seeds and other numbers of clusters would have given (paper, Section 4.2)."""

    k = dy.Int64(primary_key=True, min=1, description="Number of clusters")
    seed = dy.Int64(primary_key=True, description="Seed of the fit")
    pictures = _count("Pictures fitted: a random sample of the dataset")
    inertia = dy.Float64(min=0, description="Sum of squared distances of those pictures to their centroids")
    excess = dy.Float64(min=0, description="Inertia over the lowest of this k, less one")
    silhouette = dy.Float64(
        nullable=True, min=-1, max=1, description="Mean silhouette of a subsample; null with one cluster"
    )
    ari_seeds = dy.Float64(
        nullable=True, min=-1, max=1, description="Mean adjusted Rand index with this k's other seeds"
    )
    ari_model = dy.Float64(min=-1, max=1, description="Adjusted Rand index with the model in force")
    rising = _count("Clusters whose share rises, Holm over this k")
    falling = _count("Clusters whose share falls")
    shifting = dy.Float64(
        nullable=True, min=0, max=1, description="Share of all pictures in those; null below three months"
    )


class Clusters(dy.Schema):
    """The cluster of each picture."""

    image_id = dy.String(primary_key=True, description="Picture")
    month = _month()
    cluster = dy.Int64(min=1, description="Label, from 1")
    distance = dy.Float32(min=0, description="Euclidean distance to the centroid")
    version = dy.String(description="Version of the cluster model")


class ClusterThemes(dy.Schema):
    """The words that set each cluster's captions apart (paper, Figure 4c)."""

    cluster = dy.Int64(primary_key=True, min=1, description="Label, from 1")
    rank = dy.Int64(primary_key=True, min=1, description="Rank of the word in the cluster, from 1")
    word = dy.String(description="Word")
    count = _count("Captions of the cluster that hold it")
    share = dy.Float64(min=0, max=1, description="Share of the cluster's captions that hold it")
    lift = dy.Float64(min=0, description="That share divided by the share over all captions")


class ClusterNsfw(dy.Schema):
    """How the NSFW scores of each cluster's pictures are distributed (paper, Section 4.2)."""

    cluster = dy.Int64(primary_key=True, min=1, description="Label, from 1")
    pictures = _count("Pictures of the cluster")
    scored = _count("Those of them with a score; all else is of these")
    mean = dy.Float64(nullable=True, min=0, max=1, description="Mean score")
    q05 = dy.Float64(nullable=True, min=0, max=1, description="5th percentile")
    q25 = dy.Float64(nullable=True, min=0, max=1, description="25th percentile")
    median = dy.Float64(nullable=True, min=0, max=1, description="Median")
    q75 = dy.Float64(nullable=True, min=0, max=1, description="75th percentile")
    q95 = dy.Float64(nullable=True, min=0, max=1, description="95th percentile")
    unsafe = _count("Pictures with a score of 0.5 or more")
    share = dy.Float64(nullable=True, min=0, max=1, description="unsafe / scored")
    low = _low()
    high = _high()
    histogram = dy.List(dy.Int64(), description="Pictures in each twentieth of [0, 1], from 0")


class ClusterTrends(dy.Schema):
    """Share of each cluster in each month, and the cluster's trend (paper, Figure 4b)."""

    cluster = dy.Int64(primary_key=True, min=1, description="Label, from 1")
    month = _month(primary_key=True)
    pictures = _count("Pictures of the cluster in the month")
    total = _count("Pictures in the month")
    share = dy.Float64(min=0, max=1, description="pictures / total")
    low = _low()
    high = _high()
    slope = dy.Float64(nullable=True, description="Change of the log odds of the share per month")
    slope_low = _low()
    slope_high = _high()
    p_value = dy.Float64(nullable=True, min=0, max=1, description="Of the slope, overdispersed binomial")
    p_holm = dy.Float64(nullable=True, min=0, max=1, description="Corrected for all clusters, Holm")
    trend = dy.Enum(["rising", "falling", "steady", "unknown"], description="Direction at p_holm < 0.05")


class ProjectionModel(dy.Schema):
    """The sample that the UMAP map was fitted on; the arrays beside it hold its vectors and coordinates."""

    source = dy.String(primary_key=True, description="twigma or a reference corpus")
    image_id = dy.String(primary_key=True, description="Picture")
    x = dy.Float64(description="First map coordinate")
    y = dy.Float64(description="Second map coordinate")
    version = dy.String(description="Version of the map")


class Projection(dy.Schema):
    """The place of each picture on the map."""

    image_id = dy.String(primary_key=True, description="Picture")
    month = _month()
    x = dy.Float64(description="First map coordinate (UMAP_dim_1)")
    y = dy.Float64(description="Second map coordinate (UMAP_dim_2)")
    version = dy.String(description="Version of the map")


# ---------------------------------------------------------------- comparison


class Codebook(dy.Schema):
    """Joint quantizers of all sources; the arrays beside the table hold their centroids."""

    cells = dy.Int64(primary_key=True, min=1, description="Size of the quantizer")
    cell = dy.Int64(primary_key=True, min=0, description="Cell, from 0")
    source = dy.String(primary_key=True, description="twigma or a reference corpus")
    pictures = _count("Pictures of the source's equal-sized sample in the cell")
    version = dy.String(description="Hash of the centroids: the codebook's version")


class Divergences(dy.Schema):
    """How far a month is from each corpus, by measure."""

    month = _month(primary_key=True)
    corpus = dy.String(primary_key=True, description="Reference corpus")
    measure = dy.String(primary_key=True, description="Measure, see docs/methods.md")
    cells = dy.Int64(nullable=True, description="Quantizer cells; null where the measure uses none")
    value = dy.Float64(nullable=True, description="Estimate")
    low = _low()
    high = _high()
    n_month = _count("Pictures of the month")
    n_corpus = _count("Pictures of the corpus")
    reason = _reason()


class DivergenceMatrix(dy.Schema):
    """Divergence of every source from every other (paper, Figure 2c)."""

    source_p = dy.String(primary_key=True, description="Row source: twigma or a reference corpus")
    source_q = dy.String(primary_key=True, description="Column source")
    measure = dy.String(primary_key=True, description="Measure")
    cells = dy.Int64(nullable=True, description="Quantizer cells; null where the measure uses none")
    value = dy.Float64(nullable=True, description="Estimate")
    low = _low()
    high = _high()
    n_p = _count("Pictures of the row source")
    n_q = _count("Pictures of the column source")
    smoothing = dy.Float64(nullable=True, description="Pseudo-count added to each cell")
    reason = _reason()


class DivergenceRobustness(dy.Schema):
    """Whether the choice of measure and quantizer matters: each variant's order of the pairs of sources."""

    variant = dy.String(primary_key=True, description="Measure, cells, and seed of the quantizer, in words")
    source_p = dy.String(primary_key=True, description="Row source: twigma or a reference corpus")
    source_q = dy.String(primary_key=True, description="Column source")
    measure = dy.String(description="Measure")
    cells = dy.Int64(nullable=True, description="Quantizer cells; null where the measure uses none")
    seed = dy.Int64(nullable=True, description="Seed of the quantizer; null for the frozen codebook, or none")
    value = dy.Float64(nullable=True, description="Estimate")
    low = _low()
    high = _high()
    n_p = _count("Pictures of the row source that it is computed from")
    n_q = _count("Pictures of the column source")
    smoothing = dy.Float64(nullable=True, description="Pseudo-count added to each cell")
    rank = dy.Int64(nullable=True, min=1, description="Rank of the pair in the variant, from 1, the nearest")
    kendall_tau = dy.Float64(
        nullable=True,
        min=-1,
        max=1,
        description="Of the variant's order of the pairs against that of kl over 10 cells",
    )
    claim_holds = dy.Bool(
        nullable=True,
        description="Whether posts and DiffusionDB are nearer to one another than either to a human corpus",
    )
    reason = _reason()


class VariationMetrics(dy.Schema):
    """How variable a month's pictures are, by metric (paper, Section 3)."""

    month = _month(primary_key=True)
    metric = dy.String(primary_key=True, description="Metric, see docs/methods.md")
    value = dy.Float64(nullable=True, description="Estimate; null where it is undefined")
    low = _low()
    high = _high()
    n = _count("Pictures it is computed from")
    reason = _reason()


class VariationTable(dy.Schema):
    """How variable each source is, by metric, and within an artist or a prompt (paper, Figures 3a and 3b)."""

    source = dy.String(
        primary_key=True,
        description="twigma, a corpus, artbench_same_artist or diffusiondb_same_prompt",
    )
    metric = dy.String(primary_key=True, description="Metric")
    value = dy.Float64(nullable=True, description="Estimate; null where it is undefined")
    low = _low()
    high = _high()
    n = _count("Pictures it is computed from")
    reason = _reason()


class PairDistances(dy.Schema):
    """Histogram of the pairwise distances behind Figure 3a and 3d."""

    source = dy.String(primary_key=True, description="twigma, a corpus, a condition, or a text source")
    left = dy.Float64(primary_key=True, description="Left edge of the bin")
    right = dy.Float64(description="Right edge of the bin")
    pairs = _count("Pairs in the bin")
    density = dy.Float64(description="Share of pairs per unit of distance")


class PromptVariation(dy.Schema):
    """Distance between the pictures of one prompt, against the prompt's length (paper, Figure 3c)."""

    prompt_id = dy.String(primary_key=True, description="Prompt")
    words = _count("Words of the prompt")
    pictures = _count("Pictures of the prompt")
    mean_distance = dy.Float64(description="Mean pairwise distance between them")
    kendall_tau = dy.Float64(nullable=True, description="Over all prompts: rank correlation with words")
    tau_low = _low()
    tau_high = _high()
    p_value = dy.Float64(nullable=True, description="Of Kendall's tau")


class TextVariation(dy.Schema):
    """How variable each text source is, matched in words to the prompts (paper, Figure 3d)."""

    source = dy.String(primary_key=True, description="Text source")
    value = dy.Float64(nullable=True, description="Mean pairwise distance")
    low = _low()
    high = _high()
    n = _count("Texts after matching")
    mean_words = dy.Float64(nullable=True, description="Mean words after matching")
    reason = _reason()


# ---------------------------------------------------------------- engagement


class Neighbors(dy.Schema):
    """The nearest human pictures of each picture (paper, Figure 2d)."""

    image_id = dy.String(primary_key=True, description="Picture")
    corpus = dy.String(primary_key=True, description="laion or artbench")
    month = _month()
    similarity = dy.Float64(description="Mean cosine similarity of the five nearest")
    neighbor_ids = dy.List(dy.String(), description="The nearest, most similar first")
    neighbor_similarities = dy.List(dy.Float32(), description="Their cosine similarities")


class Engagement(dy.Schema):
    """Likes by quintile of similarity and the regression (paper, Figure 2d and equation 1)."""

    corpus = dy.String(primary_key=True, description="laion or artbench")
    column = dy.Enum(
        ["paper", "robust", "posts", "negative_binomial"],
        primary_key=True,
        description="paper: as in the paper; robust: errors clustered by author; posts: robust, one row a "
        "post; negative_binomial: robust, variance mean + alpha mean^2",
    )
    quantity = dy.Enum(
        ["mean_likes", "rate_ratio", "followers_ratio", "dispersion", "alpha"],
        primary_key=True,
        description="mean_likes: of the quintile; rate_ratio: exp(gamma) against quintile 5; "
        "followers_ratio: exp(beta) against fewer than 500; dispersion: Pearson chi2 / df; alpha: of the "
        "negative binomial",
    )
    term = dy.String(primary_key=True, description="Quintile 1-5, follower band, or all")
    estimate = dy.Float64(nullable=True, description="Estimate")
    low = _low()
    high = _high()
    p_value = dy.Float64(nullable=True, description="Against a ratio of 1")
    n = _count("Rows of the estimate: pictures, or posts in column posts")
    groups = _count("Authors that the errors are clustered by; null in column paper", nullable=True)
    without_likes = _count("Pictures, or posts in column posts, left out for want of likes data")
    note = dy.String(nullable=True, description="Why there is no estimate or no interval, or what it means")


class Inspirations(dy.Schema):
    """Pairs of a picture and a human picture so close that one may have inspired the other (Figure 4e)."""

    rank = dy.Int64(primary_key=True, min=1, description="Most similar pair first")
    image_id = dy.String(description="Picture")
    corpus = dy.String(description="laion or artbench")
    neighbor_id = dy.String(description="Human picture")
    similarity = dy.Float64(description="Cosine similarity")
    margin = dy.Float64(
        nullable=True, min=0, description="Similarity less that of the corpus's second nearest picture"
    )
    nsfw_score = dy.Float32(nullable=True, description="Of the picture")
    neighbor_nsfw_score = dy.Float32(nullable=True, description="Of the human picture; null where not scored")


# ---------------------------------------------------------------- annotation


class AnnotationTasks(dy.Schema):
    """Pictures for annotators, shuffled so that the sheet does not show the clusters (paper, Section 3)."""

    task = dy.Int64(primary_key=True, min=1, description="Number on the sheet")
    image_id = dy.String(unique=True, description="Picture")
    month = _month()
    cluster = dy.Int64(min=1, description="Its cluster; not on the sheet")
    seed = dy.Int64(description="Seed of the draw: with another one, all pictures are drawn anew")


class Annotations(dy.Schema):
    """What annotators wrote."""

    annotator = dy.String(primary_key=True, description="Annotator's pseudonym")
    image_id = dy.String(primary_key=True, description="Picture")
    keywords = dy.List(dy.String(), description="Up to three keywords, lower case")
    group = dy.String(nullable=True, description="The annotator's own group for the picture")


class AnnotationConcordance(dy.Schema):
    """Agreement of annotators with the clusters' words, the clusters, and one another."""

    measure = dy.String(primary_key=True, description="Measure, see docs/methods.md")
    scope = dy.String(primary_key=True, description="all, a cluster, or an annotator")
    value = dy.Float64(nullable=True, description="Estimate")
    low = _low()
    high = _high()
    n = _count("Pictures it is computed from")


# ---------------------------------------------------------------- figures and report


class PaperComparison(dy.Schema):
    """Numbers of the paper beside ours."""

    number = dy.String(primary_key=True, description="Short name of the number")
    place = dy.String(description="Where the paper states it")
    paper = dy.String(description="The paper's words; several places are parted by …")
    kind = dy.Enum(
        ["setting", "size", "level", "direction", "outside"],
        description="Choice of the method; how much there is; value that depends on the data; stated order, "
        "as a contrast that is positive where it holds; not computed here",
    )
    paper_value = dy.Float64(nullable=True, description="The paper's, as a number")
    paper_low = dy.Float64(nullable=True, description="Its 95 % interval, lower end")
    paper_high = dy.Float64(nullable=True, description="Its 95 % interval, upper end")
    value = dy.Float64(nullable=True, description="Ours")
    low = _low()
    high = _high()
    asset = dy.String(description="Asset that ours comes from")
    selection = dy.String(nullable=True, description="Rows and columns of the asset that ours is read from")
    verdict = dy.Enum(["reproduced", "differs", "not comparable"], description="Beside the paper's")
    because = dy.String(description="Why, in a sentence")


class Release2023Comparison(dy.Schema):
    """The 2023 release beside this dataset, picture by picture; no rows where there is no release."""

    measure = dy.String(primary_key=True, description="Measure, see docs/methods.md")
    value = dy.Float64(nullable=True, description="Estimate; null where it is undefined")
    low = _low()
    high = _high()
    n = _count("Pictures it is computed from")


class Release(dy.Schema):
    """Files of a release."""

    path = dy.String(primary_key=True, description="File, relative to the release's folder")
    rows = _count("Rows, for tables", nullable=True)
    bytes = _count("Size in bytes")
    sha256 = dy.String(description="sha256 of the file")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[a-z])(?=[0-9])", "_", name).lower()


SCHEMAS: dict[str, type[dy.Schema]] = {_snake(cls.__name__): cls for cls in dy.Schema.__subclasses__()}


def conform(name: str, frame: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """Return `frame` with exactly the columns, order and types of table `name`.

    Raises:
        KeyError: there is no such table.
        dataframely.exc.ValidationError, SchemaError: a column is missing or a rule does not hold; the
            message names the column and the rule.
    """
    if name not in SCHEMAS:
        raise KeyError(f"no table named {name!r}; known: {', '.join(sorted(SCHEMAS))}")
    return SCHEMAS[name].validate(frame.lazy().collect(), cast=True)


def content_columns(name: str) -> list[str]:
    """Return the columns of table `name` that make up its content: all but what tells of a run only."""
    return [
        column
        for column, spec in SCHEMAS[name].columns().items()
        if not (spec.metadata or {}).get("volatile")
    ]


def empty(name: str) -> pl.DataFrame:
    """Return table `name` without rows."""
    return SCHEMAS[name].create_empty()

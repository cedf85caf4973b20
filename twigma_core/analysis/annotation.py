"""Pictures and sheets for annotators, as they go out (paper, Section 3, Figure 4c).

Here: the choice of pictures, the sheet, and the Label Studio project. Not here: reading them back
(`annotation_sheets`), the agreement (`concordance`), the clusters (`clusters`) and their words (`themes`).
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from twigma_core import tables

SHEET_COLUMNS = ("annotator", "image_id", "picture", "keywords", "group")
MAX_KEYWORDS = 3

LABEL_STUDIO_CONFIG = """<View>
  <Header value="Picture $number"/>
  <Image name="picture" value="$image"/>
  <Header value="Three keywords for this picture; Enter after each"/>
  <TextArea name="keywords" toName="picture" maxSubmissions="3" rows="1" editable="true"
            placeholder="a keyword, then Enter"/>
  <Header value="Your own group for it: the same name for pictures that belong together"/>
  <TextArea name="group" toName="picture" maxSubmissions="1" rows="1" editable="true"
            placeholder="a group, then Enter"/>
</View>
"""

INSTRUCTIONS = """Labelling pictures

Each picture gets two things from you:
1. three keywords that say what is on it, and
2. a group of your own making: pictures that belong together get the same group. Look through all of them
   first; there is no right number of groups.
Do not talk to the other annotators about it until all are done.{warning}

On the sheet (sheet.csv): the column picture names the file below pictures/. Fill in a pseudonym as annotator,
keywords parted by semicolons (cat; night; neon), and the group; leave image_id as it is. Save as CSV UTF-8.

In Label Studio: make a project, paste label_studio/config.xml under Labeling Interface, Code, and import
label_studio/tasks.json, which holds the pictures. Export as JSON.

Put the filled-in sheets and exports into the lake's folder {inbox}, and materialize annotations.
"""


def make_tasks(
    clusters: pl.DataFrame, per_cluster: int = 10, seed: int = 0, previous: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Return table `annotation_tasks`: random pictures of each cluster, shuffled (paper, Section 3).

    Pictures that were handed out before with the same seed stay, under their number and with their present
    cluster, so that no work is lost when months come in or clusters are fitted anew; a cluster that then has
    fewer than it should is filled up. Another seed draws all anew.

    Args:
        clusters: table `clusters`: image_id, month, cluster.
        per_cluster: pictures of each cluster; all of a smaller one.
        seed: seed of the choice and the order.
        previous: the table that this one replaces.
    """
    rng = np.random.default_rng(seed)
    # sorted first, so that the choice does not depend on the order in which the months were read
    ordered = clusters.select("image_id", "month", "cluster").unique("image_id").sort("image_id")
    before = tables.empty("annotation_tasks") if previous is None else previous
    kept = before.filter(pl.col("seed") == seed).select("task", "image_id")
    staying = kept.join(ordered, on="image_id", how="inner").select("task", "image_id", "month", "cluster")
    chosen = []
    for label in ordered["cluster"].unique().sort():
        members = ordered.filter(pl.col("cluster") == label)
        free = members.join(staying, on="image_id", how="anti", maintain_order="left")
        wanted = per_cluster - (members.height - free.height)
        size = max(0, min(wanted, free.height))
        chosen.append(free[rng.choice(free.height, size=size, replace=False)] if size else free.clear())
    if not chosen:
        return tables.empty("annotation_tasks")
    every = pl.concat(chosen)
    first = max(kept["task"], default=0) + 1
    added = every[rng.permutation(every.height)].with_row_index("task", offset=first)
    found = pl.concat([staying, added.select(pl.col("task").cast(pl.Int64), *staying.columns[1:])])
    return tables.conform("annotation_tasks", found.sort("task").with_columns(seed=pl.lit(seed, pl.Int64)))


def sheet_csv(tasks: pl.DataFrame, pictures: Mapping[str, str] | None = None, annotator: str = "") -> str:
    """Return a sheet to fill in: annotator, image_id, picture, keywords (a; b; c), group. No cluster on it.

    Args:
        tasks: table `annotation_tasks`.
        pictures: where to look at each picture (file or address), by image id.
        annotator: pseudonym to fill in beforehand.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(SHEET_COLUMNS)
    for image_id in tasks.sort("task")["image_id"]:
        writer.writerow([annotator, image_id, (pictures or {}).get(image_id, ""), "", ""])
    return out.getvalue()


def label_studio_tasks(tasks: pl.DataFrame, image_urls: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the tasks to import into a Label Studio project with `LABEL_STUDIO_CONFIG`; no cluster in them.

    Args:
        tasks: table `annotation_tasks`.
        image_urls: address of each picture, by image id.

    Raises:
        KeyError: a picture has no address; the message names it.
    """
    _require(tasks, image_urls, "address; add them to image_urls")
    return [
        {"id": task, "data": {"image": image_urls[image_id], "image_id": image_id, "number": task}}
        for task, image_id in tasks.sort("task").select("task", "image_id").iter_rows()
    ]


def picture_files(tasks: pl.DataFrame) -> dict[str, str]:
    """Return the image id of each task's picture, by the name of its file beside the sheet."""
    numbered = tasks.sort("task").select("task", "image_id").iter_rows()
    return {f"pictures/{task:03d}.jpg": image_id for task, image_id in numbered}


def project_files(
    tasks: pl.DataFrame, pictures: Mapping[str, bytes], inbox: str = "inbox/annotations", unsafe: int = 0
) -> dict[str, bytes]:
    """Return everything that annotators need, as files by name: no cluster in any of them.

    `sheet.csv` beside `pictures/001.jpg` and so on, numbered as the tasks; `label_studio/config.xml` and
    `tasks.json`, in which the pictures are data addresses, so that no server need hand them out; and
    `README.txt` with instructions.

    Args:
        tasks: table `annotation_tasks`.
        pictures: JPEG of each picture, by image id.
        inbox: where labels are to be put, for the instructions.
        unsafe: number of pictures that are probably not safe for work, for a warning.

    Raises:
        KeyError: a task has no picture; the message counts them and names one.
    """
    _require(tasks, pictures, "picture; materialize images of its month")
    names = {
        image_id: f"pictures/{task:03d}.jpg"
        for task, image_id in tasks.select("task", "image_id").iter_rows()
    }
    addresses = {
        image_id: f"data:image/jpeg;base64,{base64.b64encode(pictures[image_id]).decode()}"
        for image_id in names
    }
    warning = ""
    if unsafe:
        warning = (
            f"\n\nBe warned: {unsafe} of the {tasks.height} pictures are probably not safe for work. "
            "Stop whenever you like,\nand leave blank what you do not want to look at."
        )
    return {
        "README.txt": INSTRUCTIONS.format(inbox=inbox, warning=warning).encode(),
        "sheet.csv": sheet_csv(tasks, names).encode(),
        "label_studio/config.xml": LABEL_STUDIO_CONFIG.encode(),
        "label_studio/tasks.json": json.dumps(label_studio_tasks(tasks, addresses), indent=1).encode(),
        **{name: pictures[image_id] for image_id, name in names.items()},
    }


def _require(tasks: pl.DataFrame, given: Mapping[str, Any], what: str) -> None:
    missing = [image_id for image_id in tasks["image_id"] if image_id not in given]
    if missing:
        count = f"{len(missing)} of {tasks.height}, first {missing[0]},"
        raise KeyError(f"annotation_tasks: {count} have no {what}")

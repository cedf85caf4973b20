from __future__ import annotations

import csv
import io
import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twigma_core import tables
from twigma_core.analysis.annotation import make_tasks, project_files
from twigma_core.analysis.annotation_sheets import read_sheets


@pytest.fixture(scope="module")
def tasks() -> pl.DataFrame:
    rows = [(f"i{i:03d}", "2021-01" if i % 2 else "2021-02", 1 + i % 3) for i in range(90)]
    rows += [(f"z{i}", "2021-02", 4) for i in range(4)]
    return make_tasks(pl.DataFrame(rows, schema=["image_id", "month", "cluster"], orient="row"), seed=3)


def test_a_filled_in_sheet_comes_back(tasks: pl.DataFrame) -> None:
    files = project_files(tasks, dict.fromkeys(tasks["image_id"], b""))
    rows = list(csv.DictReader(io.StringIO(files["sheet.csv"].decode())))
    for row in rows:
        row |= {"annotator": "ann", "keywords": "A Cat;  red   Hat ;a cat", "group": "Tiere "}
    rows[3] |= {"keywords": "", "group": ""}
    rows[5]["image_id"] = "1.62E+18"  # what a spreadsheet makes of a long number
    rows[6] |= {"image_id": "777", "picture": ""}
    for delimiter, encoding in ((",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16")):
        out = io.StringIO()
        writer = csv.DictWriter(out, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        frame, problems = read_sheets([("excel.csv", out.getvalue().encode(encoding))], tasks)
        assert problems == [
            "excel.csv, row 8: picture 777 is not among the tasks",
            "excel.csv: ann left 1 of 33 pictures blank",
        ]
        wanted = [i for at, i in enumerate(tasks["image_id"]) if at not in (3, 6)]
        assert frame["image_id"].to_list() == wanted
        assert frame.row(0, named=True)["keywords"] == ["a cat", "red hat"]
        assert frame["group"].unique().to_list() == ["Tiere"]


def result(name: str, *text: str) -> dict[str, Any]:
    return {"from_name": name, "to_name": "picture", "type": "textarea", "value": {"text": list(text)}}


EXPORT = [
    {
        "id": 1,
        "data": {"image": "u", "image_id": "i1"},
        "annotations": [
            {
                "completed_by": {"id": 7, "email": "a@b.org"},
                "result": [result("keywords", "Dog", "sea")],
                "was_cancelled": False,
            },
            {"completed_by": 8, "result": [result("keywords", "dog"), result("group", "G")]},
        ],
    },
    {
        "id": 2,
        "data": {"image": "u", "image_id": "i2"},
        "annotations": [
            {"completed_by": 8, "result": [], "was_cancelled": True},
            {"completed_by": 9, "result": []},
            {"completed_by": 7, "result": [{**result("keywords"), "value": {"text": "one string"}}]},
        ],
    },
]


def test_label_studio_json_is_read() -> None:
    frame, problems = read_sheets([("export.json", json.dumps(EXPORT))])
    assert frame.rows() == [
        ("7", "i1", ["dog", "sea"], None),
        ("8", "i1", ["dog"], "G"),
        ("7", "i2", ["one string"], None),
    ]
    assert problems == [
        "export.json, row 2: skipped in Label Studio",
        "export.json: 9 labelled none of 1 pictures",
    ]


def test_label_studios_smaller_exports_are_read_without_e_mail_addresses() -> None:
    small = [
        {
            "image": "data:image/jpeg;base64,AAAA",
            "image_id": "i1",
            "number": 1,
            "id": 1,
            "keywords": {"text": ["Dog", "sea"]},
            "group": "animals",
            "annotator": "a@b.org",
            "annotation_id": 11,
            "lead_time": 4.2,
        },
        {"image_id": "i1", "keywords": "dog", "group": "pets", "annotator": 8, "annotation_id": 12},
    ]
    cell = json.dumps({"text": ["Dog", "sea"]}).replace('"', '""')
    table = (
        '"annotation_id","annotator","group","id","image","image_id","keywords","lead_time"\n'
        f'11,"a@b.org","animals",1,"data:image/jpeg;base64,{"A" * 200_000}","i1","{cell}",4.2\n'
        '12,"8","pets",1,"data:","i1","dog",4.2\n'
    )
    for content in (json.dumps(small), table):
        frame, problems = read_sheets([("x", content)])
        assert problems == []
        assert frame.select("image_id", "keywords", "group").rows() == [
            ("i1", ["dog", "sea"], "animals"),
            ("i1", ["dog"], "pets"),
        ]
        assert frame["annotator"][1] == "8" and frame["annotator"][0].startswith("annotator-")
        assert "@" not in "".join(frame["annotator"])
    assert csv.field_size_limit() == 131_072


def test_broken_rows_are_reported_and_the_rest_is_kept() -> None:
    text = (
        "annotator,image_id,keywords,group\n"
        "ann,1,cat;dog;sea;sky,g\n"
        "ann,1,cat,g\n"
        ",2,cat,g\n"
        "ann,,cat,g\n"
        "ann,3,,\n"
        "ann,4,cat\n"
        "ann,5,cat,g,extra\n"
        "ann,6,,h\n"
    )
    sheets = [("s.csv", text), ("other.csv", "name,note\nx,y\n"), ("empty.csv", "")]
    frame, problems = read_sheets(sheets)
    assert frame.rows() == [("ann", "1", ["cat", "dog", "sea"], "g"), ("ann", "6", [], "h")]
    assert [p.split(":")[0] for p in problems] == [
        *(f"s.csv, row {n}" for n in (2, 3, 4, 5, 7, 8)),
        "s.csv",
        "other.csv",
        "empty.csv",
    ]
    assert "4 keywords; the first 3 are kept" in problems[0] and "no column" in problems[-1]
    assert problems[6] == "s.csv: ann left 1 of 4 pictures blank"
    assert read_sheets([])[0].equals(tables.empty("annotations"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"annotator,image_id,keywords,group\nann,1,caf\xe9,g\n",
            "not text in UTF-8; save the sheet as CSV UTF-8",
        ),
        ("[{", "not a JSON export of Label Studio"),
        ('{"id": 1}', "which is a list of tasks; export it again as JSON"),
        ('[{"id": 2, "annotations": []}]', "row 1: not a task of Label Studio: 'data' is missing"),
        ('[{"data": {}, "annotations": []}]', "'image_id' is missing"),
        ('[{"data": {"image_id": "1"}, "annotations": [{"result": []}]}]', "'completed_by' is missing"),
        ('[{"data": {"image_id": "1"}, "annotations": 5}]', "a part is of another type"),
        ("[7, null]", "row 2: not a task of Label Studio"),
        ('annotator,image_id,keywords,group\nann,1,"cat,g\n', "the rest is not read"),
    ],
)
def test_malformed_files_are_reported_with_the_cure(content: str | bytes, said: str) -> None:
    frame, problems = read_sheets([("x.json", content)])
    assert frame.is_empty() and said in problems[-1] and problems[-1].startswith("x.json")


broken = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "data image_id annotations completed_by id result from_name value text annotator keywords "
                "group was_cancelled".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(broken, max_size=3).map(json.dumps) | st.binary(max_size=60) | st.text(max_size=60))
def test_whatever_is_in_the_inbox_gives_a_table_and_no_crash(content: str | bytes) -> None:
    frame, problems = read_sheets([("first", content), ("good", json.dumps(EXPORT))])
    assert frame.filter(annotator="8", image_id="i1").height == 1
    assert frame.columns == tables.empty("annotations").columns and problems
    assert (frame["keywords"].list.len() <= 3).all()

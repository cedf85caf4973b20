"""Good files made bad: bytes turned, cut, repeated; JSON and CSV of the right form and the wrong content."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

ODD = [
    *(b"", b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 8, b"\xed\xa0\x80", b"\n", b"\r", b'"', b",", b"'"),
    *(b"[", b"]", b"{", b"}", b":", b"null", b"true", b"-1", b"1e999", b"NaN", b"1.5e18", b"9" * 40),
    *(b'"\\ud800"', b"\\ud83c", b"\\u0000", b'""', b"[]", b"{}", b"../", b".", b"/", b"\xef\xbb\xbf"),
    *("٣".encode(), "\u202e".encode(), b"9999-12-31T23:59:59-12:00", b"0001-01-01T00:00:00+12:00"),
    *(b"(" * 200, b"[" * 150, b"f(", b"**", b"1_000", b"0x", b"nan", b"inf", b"https://[", b"data", b"id"),
]
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        7,
        2**31,
        2**53 + 1,
        2**63 - 1,
        2**63,
        10**40,
        1.5,
        1e300,
        float("nan"),
        1e999,
    ),
    *(
        "",
        " ",
        ".",
        "..",
        "/",
        "a/b",
        "\\",
        "C:x",
        "\0",
        "\ud800",
        "\ud83c x",
        "\u202e",
        "٣٤",
        "1e3",
        "1.5e18",
    ),
    *(
        "9" * 4000,
        "7_1",
        "3_1",
        "3_" + "9" * 20,
        "nan",
        "inf",
        "-inf",
        "1_000",
        "0x10",
        "https://[",
        "http://a:b@/",
    ),
    *("0001-01-01T00:00:00+12:00", "9999-12-31T23:59:59-12:00", "2022-08-02", "2022-08-02T25:00:00Z"),
    *(
        "[" * 300,
        "{" * 90,
        "[Photo(",
        "f(x=f(x=1))",
        "{1: 2}",
        "{[]: 1}",
        "[1, -x]",
        "-" * 3000,
        "a" * 200_000,
    ),
    *([], {}, [[]], [None], [{}], {"id": 1}, {"text": 2}, {"": {}}, ["a"] * 3),
]
"""What may stand where another value was expected."""


def mutate(data: bytes, random: Random) -> bytes:
    """Return a file with a few places changed: its values where it is JSON or CSV, or its bytes."""
    if random.random() < 0.6:
        try:
            return _lines_of_json(data, random)
        except ValueError:  # no JSON
            if b"," in data[:200] and b"\0" not in data[:200] and random.random() < 0.7:
                return _cells(data, random)
    out = bytearray(data)
    for _ in range(random.randint(1, 6)):
        _change(out, random)
    return bytes(out)


def damage(data: bytes, random: Random) -> bytes:
    """Return a file as a disk damages it: cut off anywhere, or a block of it turned to zeros."""
    at = random.randrange(len(data) + 1)
    if random.random() < 0.5:
        return data[:at]
    block = data[at : at + random.choice((1, 16, 64, 512))]
    return data[:at] + bytes(len(block)) + data[at + len(block) :]


def _change(out: bytearray, random: Random) -> None:
    at = random.randrange(len(out) + 1)
    length = random.choice((1, 1, 2, 4, 8, 30, 200))
    match random.randrange(7):
        case 0:
            out[at : at + 1] = bytes([random.randrange(256)])
        case 1 if at < len(out):
            out[at] ^= 1 << random.randrange(8)
        case 2:
            del out[at : at + length]
        case 3:
            out[at:at] = random.choice(ODD)
        case 4:
            out[at : at + length] = random.choice(ODD)
        case 5:
            start = random.randrange(len(out) + 1)
            out[at:at] = out[start : start + length]
        case 6 if random.random() < 0.2:
            del out[at:]


def _lines_of_json(data: bytes, random: Random) -> bytes:
    try:
        values = [json.loads(data)]
    except ValueError:
        values = [json.loads(line) for line in data.splitlines()]
    if not values:
        raise ValueError("empty")
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(values))
        values[at] = _other(values[at], random)
    return "\n".join(map(json.dumps, values)).encode()


def _other(value: Any, random: Random) -> Any:
    """Return a JSON value with one place changed."""
    if isinstance(value, dict | list) and value and random.random() < 0.9:
        keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = random.choice(keys)
        match random.randrange(12):
            case 0:
                del value[key]
            case 1 if isinstance(value, list):
                value.append(copy.deepcopy(value[key]))
            case 1 if isinstance(value, dict):
                value[str(random.choice(VALUES))[:300]] = value.pop(key)
            case _:
                value[key] = _other(value[key], random)
        return value
    return copy.deepcopy(random.choice(VALUES))


def _cells(data: bytes, random: Random) -> bytes:
    rows = [line.split(",") for line in data.decode("utf-8", "replace").split("\n")]
    for _ in range(random.randint(1, 3)):
        row = random.choice([row for row in rows if row] or [[""]])
        at = random.randrange(len(row))
        match random.randrange(8):
            case 0:
                del row[at]
            case 1:
                rows.append(list(row))
            case _:
                value = str(random.choice(VALUES))
                row[at] = f'"{value}"' if random.random() < 0.3 else value
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")

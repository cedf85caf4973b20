"""The benchmark of the downloader runs, at a small size and without the peer: results, not seconds."""

from __future__ import annotations

from benchmarks.download import Scenario, limit, ours
from benchmarks.picture_server import drawings, number_of, picture


def test_ours_stores_every_picture_byte_for_byte_through_faults() -> None:
    turn = ours(Scenario(side=96, count=150, latency=0.002, faults=0.1), connections=8)
    assert (turn.stored, turn.wrong) == (150, 0)
    faults = turn.requests - 150
    assert 0 < faults < 60, "each fault cost one more request and no more"
    assert turn.connections < 8 + faults + 5, "connections are kept: only a fault takes one"
    assert turn.measured.rss > turn.measured.pss > 2**25 and turn.serving < turn.measured.seconds


def test_pictures_are_all_different_and_known_by_their_number() -> None:
    files = drawings(64, 3)
    made = [picture(files, number) for number in range(9)]
    assert len(set(made)) == 9 and [number_of(data) for data in made] == list(range(9))
    assert number_of(b"GIF89a") is None


def test_the_limit_is_that_of_the_server() -> None:
    assert limit(Scenario(side=64, count=40, latency=0.05), connections=1) < 1 / 0.05

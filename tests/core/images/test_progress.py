"""What a step's log says of a long fetch."""

from __future__ import annotations

import pytest

from twigma_core.images.progress import in_words, say_progress


def test_it_says_now_and_then_how_far_how_fast_and_how_long_yet() -> None:
    now, said = [100.0], list[str]()
    progress = say_progress(said.append, "images/2021-01", every_s=10, over_s=30, clock=lambda: now[0])
    for done in range(1, 601):
        now[0] += 0.5 if done <= 400 else 0.125  # it becomes quicker
        progress(done, 600)
    assert said[0] == "images/2021-01: 20 of 600 (3%), 2.0 a second, 5 min left"
    assert said[-2] == "images/2021-01: 560 of 600 (93%), 6.0 a second, 7 s left", (
        "the speed of the last 30 s"
    )
    assert said[-1] == "images/2021-01: 600 of 600 in 4 min"
    assert len(said) == 20 + 2 + 1, "a line every ten seconds, and the last picture"


def test_nothing_done_yet_divides_by_nothing() -> None:
    said: list[str] = []
    say_progress(said.append, "x", every_s=0, clock=lambda: 5.0)(0, 10)
    assert said == ["x: 0 of 10 (0%), 0.0 a second, unknown left"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (45, "45 s"), (89, "89 s"), (150, "2 min"), (5400, "1 h 30 min"), (7500, "2 h 5 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words

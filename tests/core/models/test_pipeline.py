from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from twigma_core.models.pipeline import Meter, ahead, run


def test_results_come_in_order_and_no_more_is_taken_than_asked_for() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = ahead(items(), lambda number: number * number, depth=10, workers=4)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) <= 5 + 11
    results.close()
    assert len(taken) <= 5 + 11


def test_an_error_is_raised_where_its_item_stood() -> None:
    def prepare(number: int) -> int:
        if number == 7:
            raise ValueError("number 7")
        return number

    seen: list[int] = []
    with pytest.raises(ValueError, match="number 7"):
        for number in ahead(range(100), prepare, depth=20, workers=4):
            seen.append(number)
    assert seen == list(range(7))


def test_the_next_batches_are_prepared_while_one_runs() -> None:
    """The first batch does not come back until an item of the third has been prepared."""
    prepared = [threading.Event() for _ in range(40)]

    def prepare(number: int) -> int:
        prepared[number].set()
        return number

    def launch(batch: list[int]) -> Callable[[], list[int]]:
        if batch[0] == 0:
            assert prepared[20].wait(20), "nothing was prepared meanwhile"
        return lambda: batch

    meter = Meter()
    batches = list(run(range(40), prepare, launch, batch_size=10, workers=1, meter=meter))
    assert batches == [list(range(start, start + 10)) for start in range(0, 40, 10)]
    assert (meter.rows, meter.batches) == (40, 4)
    assert meter.seconds > 0


@pytest.mark.parametrize("in_flight", [0, 1, 3])
def test_a_device_gets_its_next_batch_before_its_last_result_is_waited_for(in_flight: int) -> None:
    told: list[str] = []

    def launch(batch: list[int]) -> Callable[[], int]:
        told.append(f"launch {batch[0]}")

        def wait() -> int:
            told.append(f"wait {batch[0]}")
            return batch[0]

        return wait

    list(run(range(5), lambda n: n, launch, 1, workers=1, meter=Meter(), in_flight=in_flight))
    assert told.index("wait 0") == in_flight + 1
    assert [line for line in told if line.startswith("wait")] == [f"wait {n}" for n in range(5)]

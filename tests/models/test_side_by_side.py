"""Work of one process on several processors."""

import threading

import pytest
import torch

from fedloom.models.side_by_side import processors, side_by_side


def test_results_come_in_order_and_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    together = threading.Barrier(2, timeout=20)

    def work(n: int) -> int:
        together.wait()
        return n * n

    assert torch.get_num_threads() == 1
    assert side_by_side(work, range(6)) == [0, 1, 4, 9, 16, 25]


def test_one_processor_takes_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert side_by_side(lambda _: threading.current_thread(), [1, 2]) == [threading.main_thread()] * 2


def test_an_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 // n, [1, 0, 2])


@pytest.mark.parametrize(("given", "count"), [("3", 3), ("", None), ("0", None), ("many", None)])
def test_processors(monkeypatch: pytest.MonkeyPatch, given: str, count: int | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert processors() >= 1 if count is None else processors() == count

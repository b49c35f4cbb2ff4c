"""One thread for all live runs: order, queue, stop, and one run for those who ask the same."""

from collections.abc import Callable
from threading import Event
from typing import Any

import pytest

from tests.apps.helpers import EXPLORER


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXPLORER))
    from explorer.worker import Worker

    return Worker()


def held(gate: Event, value: str) -> Callable[[Any], str]:
    def run(job: Any) -> str:
        job.next("waiting")
        assert gate.wait(10)
        job.next("done waiting")
        return value

    return run


def test_runs_wait_for_each_other_and_know_how_many_are_before_them(worker: Any) -> None:
    gate = Event()
    jobs = [worker.submit(name, held(gate, name), steps=2) for name in "abc"]
    assert [worker.ahead(job) for job in jobs] == [0, 1, 2]
    gate.set()
    assert [job.future.result(10) for job in jobs] == ["a", "b", "c"]
    assert [worker.ahead(job) for job in jobs] == [0, 0, 0]
    assert worker.finished("b") == "b" and worker.finished("z") is None


def test_who_asks_the_same_shares_the_run_and_one_visitor_cannot_stop_it_for_another(worker: Any) -> None:
    gate = Event()
    job = worker.submit("a", held(gate, "a"), steps=2)
    assert worker.submit("a", held(gate, "other"), steps=2) is job
    job.watch("one")
    job.watch("two")
    job.leave("one")
    assert not job.stop
    gate.set()
    assert job.future.result(10) == "a"


def test_a_run_that_one_visitor_alone_waits_for_stops_at_its_next_step(worker: Any) -> None:
    gate = Event()
    job, queued = (worker.submit(name, held(gate, name), steps=2) for name in "ab")
    for one in (job, queued):
        one.watch("one")
        one.leave("one")
    gate.set()
    with pytest.raises(Exception, match="was stopped"):
        job.future.result(10)
    assert queued.future.cancelled() and queued.left_by == "one"
    worker.drop(job)
    assert worker.submit("a", held(gate, "again"), steps=2).future.result(10) == "again"


def test_a_run_is_not_begun_when_its_visitor_asked_for_another_or_closed_the_page(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer.worker._WATCHED", 0.0)
    gate = Event()
    first, gone, kept, other = (worker.submit(name, held(gate, name), steps=2) for name in "abcd")
    gone.watch("closed the page", lambda: False)
    kept.watch("closed the page", lambda: False)
    kept.watch("is there", lambda: True)
    other.watch("asked for another")
    other.let_go("asked for another")
    assert other.future.cancelled() and worker.ahead(kept) == 1
    gate.set()
    assert (first.future.result(10), kept.future.result(10)) == ("a", "c")
    with pytest.raises(Exception, match="was stopped"):
        gone.future.result(10)
    assert gone.stage == other.stage == ""
    assert gone.left_by == other.left_by == "nobody"


def test_a_page_that_is_loaded_again_keeps_its_run(worker: Any) -> None:
    gate = Event()
    job = worker.submit("a", held(gate, "a"), steps=2)
    job.watch("before", lambda: False)
    gate.set()
    assert job.future.result(10) == "a"

"""One thread for all live runs: order, queue, stop, and one run for those who ask the same."""

from collections.abc import Callable
from threading import Event

import pytest

from tests.apps.helpers import EXPLORER


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> "object":
    monkeypatch.syspath_prepend(str(EXPLORER))
    from explorer.worker import Worker

    return Worker()


def held(gate: Event, value: str) -> Callable[[object], str]:
    def run(job: object) -> str:
        job.next("waiting")  # type: ignore[attr-defined]
        assert gate.wait(10)
        job.next("done waiting")  # type: ignore[attr-defined]
        return value

    return run


def test_runs_wait_for_each_other_and_know_how_many_are_before_them(worker) -> None:  # type: ignore[no-untyped-def]
    gate = Event()
    jobs = [worker.submit(name, held(gate, name), steps=2) for name in "abc"]
    assert [worker.ahead(job) for job in jobs] == [0, 1, 2]
    gate.set()
    assert [job.future.result(10) for job in jobs] == ["a", "b", "c"]
    assert [worker.ahead(job) for job in jobs] == [0, 0, 0]
    assert worker.finished("b") == "b" and worker.finished("z") is None


def test_who_asks_the_same_shares_the_run_and_one_visitor_cannot_stop_it_for_another(worker) -> None:  # type: ignore[no-untyped-def]
    gate = Event()
    job = worker.submit("a", held(gate, "a"), steps=2)
    assert worker.submit("a", held(gate, "other"), steps=2) is job
    job.watch("one")
    job.watch("two")
    job.leave("one")
    assert not job.stop
    gate.set()
    assert job.future.result(10) == "a"


def test_a_run_that_one_visitor_alone_waits_for_stops_at_its_next_step(worker) -> None:  # type: ignore[no-untyped-def]
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

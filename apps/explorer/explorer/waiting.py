"""Waiting for a live run: at once if it is quick, otherwise with its progress and a way to stop it."""

from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NotYetError
from typing import Any, TypeVar
from uuid import uuid4

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from engram_interp.errors import InputError
from explorer import earlier, states
from explorer.live import worker
from explorer.states import State
from explorer.worker import Job, StoppedError

T = TypeVar("T")
QUICK = 0.4
POLL = 0.3
QUEUED = 0.8
"""Seconds more between two looks for each run before it: pages that wait must not slow the one that runs."""
_VISITOR = "visitor"
_LEFT = "runs this visitor stopped"
_ASKED = "runs this visitor asked for, by panel"

_OTHER = "Change the text or what is switched off, and run it again."
_STOPPED = State(
    what="The run was stopped.",
    why="It was stopped before it was done; nothing of it was kept.",
    todo="Run it again, or choose something else.",
)


def result_of(job: Job[T], *, what: str, panel: str, todo: str = _OTHER) -> T | None:
    """The result of `job`; None where its progress, or why it failed and what `todo` then, is shown instead.

    A run that this panel asked for before is let go: nobody waits for it any more. What the panel showed
    last stays below the progress, greyed.
    """
    _asked(job, panel)
    if job in _left() and not job.future.done():
        _failed(job, _STOPPED, key=what)
        return None
    try:
        return job.future.result(timeout=QUICK)
    except NotYetError:
        _progress(job, what)
        earlier.show(panel)
    except (StoppedError, CancelledError):
        if job.left_by not in {"", _visitor()}:  # another visitor did not want it; this one asks anew
            worker().drop(job)
            st.rerun()
        _failed(job, _STOPPED, key=what)
    except InputError as error:
        states.show(State(what="This cannot be run.", why=str(error), todo=todo, tone="error"))
    except MemoryError as error:
        _failed(job, _no_memory(job.stage, wanted=str(error)), key=what)
    except Exception as error:
        _failed(job, _defect(error), key=what)
    return None


def _no_memory(stage: str, *, wanted: str) -> State:
    during = f" while {stage}" if stage else ""
    more = f" ({wanted} more were wanted)" if wanted else ""
    return State(
        what="This machine ran out of memory.",
        why=f"The run needed more than is free{during}{more}; the explorer and the model are still there.",
        todo="Try a shorter text or fewer layers, or free some memory, and run it again.",
        tone="error",
    )


def _defect(error: Exception) -> State:
    return State(
        what="The run failed.",
        why=f"{type(error).__name__}: {error}. This is a defect of the tool; its log has the details.",
        todo="Other pages and prompts keep working. Please report the log with the text you typed.",
        tone="error",
    )


def _left() -> set[Job[Any]]:
    found: set[Job[Any]] = st.session_state.setdefault(_LEFT, set())
    return found


def _visitor() -> str:
    return str(st.session_state.setdefault(_VISITOR, uuid4().hex))


def _here() -> Callable[[], bool]:
    """Tells, also in the worker's thread, whether this visitor's page is open."""
    context = get_script_run_ctx()
    session = "" if context is None else context.session_id
    return lambda: not runtime.exists() or runtime.get_instance().is_active_session(session)


def _asked(job: Job[Any], panel: str) -> None:
    """Note which run a panel asks for, and let go of the one it asked for before."""
    asked: dict[str, Job[Any]] = st.session_state.setdefault(_ASKED, {})
    before = asked.get(panel)
    asked[panel] = job
    if job not in _left():
        job.watch(_visitor(), _here())
    if before is not None and before not in asked.values():
        before.let_go(_visitor())


def _failed(job: Job[T], state: State, *, key: str) -> None:
    states.show(state)
    st.button("Run it again", key=f"run again {key}", on_click=_again, args=(job,))


def take_up(job: Job[T]) -> None:
    """Begin a job anew that was stopped, or that came to no result; any other stays as it is."""
    if job in _left() or job.stop or (job.future.done() and job.future.exception() is not None):
        _again(job)


def _again(job: Job[T]) -> None:
    """Take a job up again: the one others wait for, or a new one."""
    _left().discard(job)
    if job.stop or job.future.done():
        worker().drop(job)


def _progress(job: Job[T], what: str) -> None:
    """Place in the queue or step, time and Stop; draws the whole page again when the job is done."""
    visitor, here = _visitor(), _here()

    @st.fragment(run_every=POLL + QUEUED * worker().ahead(job))
    def poll() -> None:
        if job.future.done():
            st.rerun(scope="app")
        job.watch(visitor, here)
        with st.container(key=f"progress {what}", horizontal=True, vertical_alignment="center"):
            st.progress(min(job.done_steps / job.steps, 1.0), text=f"{what}: {_said(job)}")
            if st.button("Stop", key=f"stop {what}"):
                job.leave(visitor)
                _left().add(job)
                st.rerun(scope="app")

    poll()


def _said(job: Job[T]) -> str:
    before = worker().ahead(job)
    if not job.stage and before:
        runs = "1 run is" if before == 1 else f"{before} runs are"
        return f"queued, {runs} before it · {job.elapsed:.1f} s"
    stage = job.stage or "about to begin"
    return f"{stage} · step {job.done_steps + 1} of {job.steps} · {job.elapsed:.1f} s"

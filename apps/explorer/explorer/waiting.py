"""Waiting for a live run: at once if it is quick, otherwise with its progress and a way to stop it."""

from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NotYetError
from typing import TypeVar

import streamlit as st

from engram_interp.errors import InputError
from explorer import states
from explorer.live import Job, StoppedError, live
from explorer.states import State

T = TypeVar("T")
QUICK = 0.4
POLL = 0.3

_STOPPED = State(
    what="The run was stopped.",
    why="You stopped it before it was done; nothing of it was kept.",
    todo="Run it again, or choose something else.",
)
_NO_MEMORY = State(
    what="This machine ran out of memory.",
    why="The run needed more than is free; the explorer and the model are still there.",
    todo="Try a shorter text, or free some memory and run it again.",
    tone="error",
)


def result_of(job: Job[T], *, what: str) -> T | None:
    """The result of `job`; None where its progress, or why it failed, is shown instead."""
    try:
        return job.future.result(timeout=QUICK)
    except NotYetError:
        _progress(job, what)
    except (StoppedError, CancelledError):
        _failed(job, _STOPPED)
    except InputError as error:
        todo = "Change the text and press Enter."
        states.show(State(what="This cannot be run.", why=str(error), todo=todo, tone="error"))
    except MemoryError:
        _failed(job, _NO_MEMORY)
    except Exception as error:
        _failed(job, _defect(error))
    return None


def _defect(error: Exception) -> State:
    return State(
        what="The run failed.",
        why=f"{type(error).__name__}: {error}. This is a defect of the tool; its log has the details.",
        todo="Other pages and prompts keep working. Please report the log with the text you typed.",
        tone="error",
    )


def _failed(job: Job[T], state: State) -> None:
    states.show(state)
    st.button("Run it again", key="run again", on_click=live().drop, args=(job,))


def _progress(job: Job[T], what: str) -> None:
    """Steps, time and Stop; draws the whole page again when the job is done."""

    @st.fragment(run_every=POLL)
    def poll() -> None:
        if job.future.done():
            st.rerun(scope="app")
        with st.container(key="progress", horizontal=True, vertical_alignment="center"):
            done = min(job.done_steps / job.steps, 1.0)
            stage = "stopping after this step" if job.stop else job.stage
            said = f"{what}: {stage} · step {job.done_steps + 1} of {job.steps} · {job.elapsed:.1f} s"
            st.progress(done, text=said)
            if st.button("Stop", key="stop live", disabled=job.stop):
                job.stop = True
                job.future.cancel()
                st.rerun(scope="app")

    poll()

"""Waiting for a live run: at once if it is quick, otherwise with its progress and a way to stop it."""

from concurrent.futures import TimeoutError as NotYetError
from typing import TypeVar

import streamlit as st

from engram_interp.errors import InputError
from explorer.live import Job, StoppedError
from explorer.states import State

T = TypeVar("T")
QUICK = 0.4
POLL = 0.3


def result_of(job: Job[T], *, what: str) -> T | State | None:
    """The result of `job`; the state to show if it failed; None while its progress is being shown."""
    try:
        return job.future.result(timeout=QUICK)
    except NotYetError:
        _progress(job, what)
        return None
    except StoppedError:
        return State(
            what="The run was stopped.",
            why="You stopped it before it was done; nothing of it was kept.",
            todo="Type again, or pick another prompt.",
        )
    except InputError as error:
        return State(
            what="This cannot be run.", why=str(error), todo="Change the text and press Enter.", tone="error"
        )
    except MemoryError:
        return State(
            what="This machine ran out of memory.",
            why="The run needed more than is free; the explorer and the model are still there.",
            todo="Try a shorter text.",
            tone="error",
        )
    except Exception as error:
        return State(
            what="The run failed.",
            why=f"{type(error).__name__}: {error}. This is a defect of the tool; its log has the details.",
            todo="The other pages and prompts keep working. Please report the log with the text you typed.",
            tone="error",
        )


def _progress(job: Job[T], what: str) -> None:
    """Steps, time and Stop; draws the whole page again when the job is done."""

    @st.fragment(run_every=POLL)
    def poll() -> None:
        if job.future.done():
            st.rerun(scope="app")
        with st.container(key="progress", horizontal=True, vertical_alignment="center"):
            done = min(job.done_steps / job.steps, 1.0)
            said = f"{what}: {job.stage} · step {job.done_steps + 1} of {job.steps} · {job.elapsed:.1f} s"
            st.progress(done, text=said)
            if st.button("Stop", key="stop live", disabled=job.stop):
                job.stop = True
                job.future.cancel()
                st.rerun(scope="app")

    poll()

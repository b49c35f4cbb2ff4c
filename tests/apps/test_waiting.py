"""Waiting for a run: the queue, Stop inside a pass, what stays on the page, memory that runs out."""

import sys
from collections.abc import Iterator
from threading import Event

import pytest
import torch
from streamlit.testing.v1 import AppTest

from engram_interp.views.tokens import token_html
from tests import support
from tests.apps.helpers import Start, settle, show, typed, written

PASSES_OF_A_READING = 3
"""Gates, slots and lens of a text: a pass each."""
PASSES_OF_AN_ABLATION = 4 + 2 * 7  # two more for each further draw of the controls
"""With the memory, without, and two controls."""


@pytest.fixture
def halfway(tokens: AppTest) -> Iterator["Halfway"]:
    """Every pass of the live model waits in its second block; the model is loaded by a first run."""
    typed(tokens, "Kalo met the ren")
    model = sys.modules["explorer.live"].live().held._model
    found = Halfway()
    hooks = [
        model.module.get_submodule(f"blocks.{layer}").register_forward_hook(act)
        for layer, act in ((1, found.wait), (model.n_layers - 1, found.end))
    ]
    yield found
    found.go.set()
    for hook in hooks:
        hook.remove()


class Halfway:
    """Where a pass is: `inside` its second block until `go`, and how many came to their last."""

    def __init__(self) -> None:
        self.inside, self.go, self.ended = Event(), Event(), 0

    def wait(self, *_: object) -> None:
        self.inside.set()
        assert self.go.wait(60)

    def end(self, *_: object) -> None:
        self.ended += 1


@pytest.mark.parametrize("again", ["Run it again", "Run at token"])
def test_stop_ends_an_ablation_inside_a_pass_and_the_next_run_begins(
    tokens: AppTest, halfway: Halfway, again: str
) -> None:
    show(tokens, "ablate")
    tokens.button(key="run ablation").click().run()
    assert halfway.inside.wait(60)
    tokens.run()
    [progress] = tokens.get("progress")
    assert "running with the memory · step 3 of 8" in progress.proto.text
    next(button for button in tokens.button if button.label == "Stop").click().run()
    assert "The run was stopped." in written(tokens) and not tokens.get("progress")
    halfway.go.set()
    next(button for button in tokens.button if button.label.startswith(again)).click().run()
    assert "Control: random direction" in written(settle(tokens))
    assert halfway.ended == PASSES_OF_AN_ABLATION  # of the second run: the first ended inside its first pass


def test_what_a_panel_showed_stays_greyed_and_named_while_the_next_is_computed(
    tokens: AppTest, halfway: Halfway
) -> None:
    halfway.go.set()
    show(tokens, "ablate")
    tokens.selectbox(key="ab kind").set_value("gate_zero").run()
    tokens.button(key="run ablation").click().run()
    assert "Greyed" not in written(settle(tokens))
    halfway.go.clear()
    tokens.selectbox(key="ab kind").set_value("rows_zero").run()
    tokens.button(key="run ablation").click().run()
    page, last = written(tokens), tokens.number_input(key="bar token").value
    of = f"gate → 0 · at token {last}, typed: Kalo met the ren"
    assert f"Greyed, from the previous run: {of}. It is not what is being computed now." in page
    assert page.count('class="predictions"') == 1 and f"A · gate → 0 · at token {last}" in page
    tokens.text_input(key="typed text").set_value("Only Kalo saw the mi").run()
    page = written(tokens)
    assert "Greyed, from the previous run: typed: Kalo met the ren, tiny. It is not" in page
    assert 'title="token 1 ' in page and "run now by tiny" not in page
    halfway.go.set()
    assert "Greyed" not in written(settle(tokens)) and "run now by tiny" in written(tokens)


def test_visitors_queue_are_told_behind_how_many_and_each_get_their_own_result(
    start: Start, tokens: AppTest, halfway: Halfway
) -> None:
    texts = ["Only Kalo saw the mi", "Kalo met the dor", "The mi of Kalo"]
    visitors = [tokens, *(start.again(page="tokens") for _ in texts[1:])]  # type: ignore[attr-defined]  # on a function
    said = []
    for app, text in zip(visitors, texts, strict=True):
        app.text_input(key="typed text").set_value(text).run()
        assert halfway.inside.wait(60)
        said += [progress.proto.text for progress in app.get("progress")]
    assert "reading the gates · step 3 of 5" in said[0]
    assert "queued, 1 run is before it" in said[1] and "queued, 2 runs are before it" in said[2]
    halfway.go.set()
    for app, text in zip(visitors, texts, strict=True):
        page = written(settle(app))
        ids = support.tokenizer().encode(text).ids
        assert f"{len(ids) + 1} tokens, run now by tiny" in page
        assert f"Token {len(ids)} <code>{token_html(support.tokenizer().decode(ids[-1:]))}</code>" in page


def test_a_run_is_let_go_when_its_visitor_asks_for_another(tokens: AppTest, halfway: Halfway) -> None:
    job = sys.modules["explorer.live"].live()
    tokens.text_input(key="typed text").set_value("Only Kalo saw the mi").run()
    assert halfway.inside.wait(60)
    tokens.text_input(key="typed text").set_value("Only Kalo saw the ren").run()
    halfway.go.set()
    settle(tokens)
    assert job.finished("Only Kalo saw the mi") is None and job.finished("Only Kalo saw the ren")
    assert halfway.ended == PASSES_OF_A_READING
    again = typed(tokens, "Only Kalo saw the mi")
    assert "run now by tiny" in written(again) and "The run was stopped." not in written(again)


def test_a_run_that_another_visitor_stopped_is_begun_anew(tokens: AppTest) -> None:
    text = "Kalo met the dor ren"
    job = sys.modules["explorer.live"].live().read(text)
    job.left_by, job.stop = "another visitor", True
    assert "run now by tiny" in written(typed(tokens, text))


NO_MEMORY = {
    "python": (MemoryError("Unable to allocate"), ""),
    "torch": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.10 GiB. GPU 0"), "3.1 GiB"),
    "cpu": (
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 3100000000 bytes."),
        "3.1 GB",
    ),
    "linux": (
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
                     "memory: you tried to allocate 3100000000 bytes. Error code 12"),
        "3.1 GB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_MEMORY)
def test_a_run_without_enough_memory_says_what_to_do_and_can_be_run_again(
    tokens: AppTest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    error, wanted = NO_MEMORY[kind]

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as short:
        short.setattr("engram_interp.gates.read", fail)
        page = written(typed(tokens, "Kalo met the dor"))
    assert "This machine ran out of memory." in page and "Try a shorter text or fewer layers" in page
    assert "than is free while reading the gates" in page
    assert (f"({wanted} more were wanted)" if wanted else "gates; the explorer") in page
    assert "defect" not in page
    job = sys.modules["explorer.live"].live().read("Kalo met the dor")
    assert job.future.exception().__context__ is None  # nothing holds the tensors of the run that failed
    next(button for button in tokens.button if button.label == "Run it again").click().run()
    assert "run now by tiny" in written(settle(tokens))

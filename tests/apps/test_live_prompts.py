"""Prompts of a bundle and typed texts on a model that is not the bundle's: other tokens, layers, streams."""

import re
from pathlib import Path

import pytest

from engram_interp.results import GateReading, write_bundle
from tests.apps.helpers import Start, parts, settle, written
from tests.results import samples

WITHOUT_SLOTS = "1"
"""Of this prompt the made-up bundle holds gates, of four tokens, and no slots."""


def made(folder: Path, text: str) -> Path:
    """The made-up bundle with `text` as the prompt without slots."""
    data = samples.gate_reading().data
    gates = GateReading(data=data.assign(prompt_text=("prompt", ["Only Kalo saw the mi", text])))
    return write_bundle(folder / "made.engram", parts() | {"gates": gates})


@pytest.mark.parametrize("text", ["K", "Kalo met the ren and the vel"])
def test_a_prompt_that_the_live_model_reads_as_other_tokens_opens(
    start: Start, tiny_model: Path, tmp_path: Path, text: str
) -> None:
    path = made(tmp_path, text)
    app = start(path, "--model", tiny_model, page="tokens", prompt=WITHOUT_SLOTS, tok="3")
    app.button(key="run slots").click().run()
    [count] = re.findall(r"(\d+) tokens, run now by tiny", written(settle(app)))
    token = app.number_input(key="bar token")
    assert int(count) != 4 and token.max == int(count) - 1
    assert token.value == min(3, int(count) - 1)

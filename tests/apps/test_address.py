"""The address of an open page: it follows every choice, and nothing that is chosen is undone by it."""

import json
import shutil
from pathlib import Path

import pytest

from tests.apps.helpers import Start, written


@pytest.mark.parametrize(
    ("version", "said"),
    [(None, "This bundle is damaged."), (99, "This bundle was made by a newer version.")],
)
def test_a_link_to_a_bundle_that_cannot_be_opened_lets_the_reader_open_another(
    start: Start, bundle: Path, tmp_path: Path, version: int | None, said: str
) -> None:
    cut = Path(shutil.copytree(bundle, tmp_path / "cut.engram"))
    manifest = json.loads((cut / "manifest.json").read_text(encoding="utf-8"))
    manifest["format"]["version"] = version
    (cut / "manifest.json").write_text("{" if version is None else json.dumps(manifest), encoding="utf-8")
    app = start(bundle, cut, b="cut", prompt="0", tok="2")
    assert said in written(app)
    app.selectbox(key="bar bundle").set_value("made-up").run()
    assert "Loaded: made-up" in written(app) and app.query_params["b"] == "made-up"

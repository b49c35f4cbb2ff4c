"""What the pages show where there are no numbers: what happened, why, what to do."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from engram_interp.results import open_bundle, write_bundle
from tests.apps.helpers import Start, figures, parts, written


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(bundle, tmp_path / "copy.engram"))


def test_no_bundle(start: Start, tmp_path: Path) -> None:
    app = start(tmp_path / "absent")
    text = written(app)
    assert "There is no bundle to open." in text
    assert f"There is no bundle at {tmp_path / 'absent'}" in text
    assert "engram-interp report" in app.code[0].value


def test_a_folder_of_bundles_gives_a_choice(start: Start, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "other.engram")
    app = start(bundle, tmp_path)
    assert app.selectbox(key="bar bundle").options == ["made-up", "other"]
    app.selectbox(key="bar bundle").set_value("other").run()
    assert "Loaded: other" in written(app)
    assert app.query_params["b"] == "other"


def test_a_damaged_manifest(start: Start, copy: Path, bundle: Path) -> None:
    (copy / "manifest.json").write_text("{", encoding="utf-8")
    app = start(copy, bundle)
    assert "This bundle is damaged." in written(app)
    assert "is not JSON" in written(app)
    app.selectbox(key="bar bundle").set_value("made-up").run()
    assert "Loaded: made-up" in written(app)


def test_a_newer_format(start: Start, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["format"]["version"] = 99
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    app = start(copy)
    assert "This bundle was made by a newer version." in written(app)
    assert "made with bundle format 99" in written(app)
    assert app.code[0].value == "pip install --upgrade engram-interp"


def test_a_damaged_part_leaves_the_others(start: Start, copy: Path) -> None:
    (copy / "parts" / "depth.nc").write_bytes(b"cut short")
    app = start(copy, page="layers")
    text = written(app)
    assert "The depth map in this bundle cannot be read." in text
    assert "depth.nc has 9 bytes" in text
    assert figures(app) == 1  # the lens curves


def test_overview_and_report_name_the_parts_that_are_cut_short_or_not_there(start: Start, copy: Path) -> None:
    (copy / "parts" / "depth.nc").write_bytes(b"cut short")
    (copy / "parts" / "lens-engram.nc").unlink()
    text = written(start(copy))
    assert "Damaged: depth, lens-engram." in text or "Damaged: lens-engram, depth." in text
    assert "depth.nc has 9 bytes" in text and "lens-engram.nc is missing" in text
    app = start(copy, page="report", parts="layers,others")
    text = written(app)
    assert "Left out: depth, lens-engram." in text and "<b>Lens curve, baseline. </b>" in text
    sections, assemble = (sys.modules[f"explorer.{name}"] for name in ("sections", "assemble"))
    scene = sys.modules["explorer.scene"].scene_of(open_bundle(copy))
    page = sections.page(assemble.opened(scene, None, ["layers"], link="/x"), note="")
    assert "Left out" in page and "depth.nc has 9 bytes" in page


def test_gates_that_are_cut_short_are_why_no_text_can_be_run(start: Start, copy: Path) -> None:
    (copy / "parts" / "gates.nc").write_bytes(b"cut short")
    text = written(start(copy, page="tokens"))
    assert "Nothing can be switched off here." in text and "gates.nc has 9 bytes" in text


def test_an_address_holds_what_the_page_set_right(start: Start, bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "other.engram")
    app = start(bundle, other, page="compare", part="nothing")
    assert app.query_params["with"] == "other" and app.query_params["part"] == "depth"
    app = start(bundle, page="memory", tok="8", slot="9.9")
    assert "There is no row “9.9” here" in written(app) and app.query_params["slot"] == "2.0"


def test_a_damaged_view_says_so_and_the_others_are_compared(start: Start, copy: Path) -> None:
    (copy / "parts" / "stitching.nc").write_bytes(b"cut short")
    text = written(start(copy, page="layers"))
    assert "The stitching in this bundle cannot be read." in text
    assert "tuned-lens prediction" in text and "function (stitching)" not in text


def test_views_that_are_missing_are_named_once_with_the_reason_that_was_noted(
    start: Start, tmp_path: Path
) -> None:
    kept = {name: part for name, part in parts().items() if name not in {"stitching", "second-opinions"}}
    noted = "The report is without stitching: Stitching wants at least 8 documents, got 3; give more."
    path = write_bundle(tmp_path / "some.engram", kept, meta={"notes": ["Something else.", noted]})
    text = written(start(path, page="layers"))
    assert text.count("Not in this bundle: stitching and other measures.") == 1
    assert f"<span>{noted}</span>" in text
    old = {name: part for name, part in parts().items() if not name.startswith(("lens-depth", "st", "se"))}
    app = start(write_bundle(tmp_path / "old.engram", old), page="layers")
    text = written(app)
    assert "Not in this bundle: stitching, lens depth, tuned lens depth and other measures." in text
    assert "was made without them" in text and "one alone is a picture" in text
    assert any("engram-interp report" in code.value for code in app.code)


@pytest.mark.parametrize(
    ("missing", "page", "said"),
    [
        ("depth", "", "Parts missing: depth map."),
        ("depth", "layers", "No depth map in this bundle."),
        ("lens-engram", "layers", "No lens curve of the Engram model in this bundle."),
        ("lens-baseline", "layers", "No lens curve of the baseline in this bundle."),
        ("gate-statistics", "memory", "No gate statistics in this bundle."),
        ("ablation", "ablate", "No ablation effects in this bundle."),
        ("slots:0", "tokens", "No slots for this prompt in this bundle."),
        ("lens-table:0", "tokens", "No lens table for this prompt in this bundle."),
    ],
)
def test_a_missing_part(start: Start, tmp_path: Path, missing: str, page: str, said: str) -> None:
    kept = {name: part for name, part in parts().items() if name != missing}
    app = start(write_bundle(tmp_path / "some.engram", kept), page=page)
    if missing == "gate-statistics":
        app.session_state["gates"] = True
        app.run()
    assert said in written(app)
    assert any("engram-interp report" in code.value for code in app.code)


def test_a_bundle_from_before_the_tests_of_the_gates_opens_and_names_them_once(
    start: Start, tmp_path: Path
) -> None:
    new = {"gate-selectivity", "gate-usefulness", "gate-information", "retained"}
    old = {name: part for name, part in parts().items() if name not in new}
    path = write_bundle(tmp_path / "old.engram", old)
    app = start(path, page="memory")
    app.session_state["gates"] = True
    app.run()
    assert (
        written(app).count("Not in this bundle: gate selectivity, gate usefulness and gate information.") == 1
    )
    noted = "The report is without retained performance: Probe 'x' has 70 tokens; shorten it."
    app = start(write_bundle(tmp_path / "some.engram", old, meta={"notes": [noted]}), page="ablate")
    assert "Not in this bundle: retained performance." in written(app)
    assert f"<span>{noted}</span>" in written(app).replace("&#x27;", "'").replace("&#39;", "'")


def test_a_damaged_test_of_the_gates_says_so_and_leaves_the_others(start: Start, copy: Path) -> None:
    for name in ("gate-selectivity", "attribution-0"):
        damaged = next((copy / "parts").glob(f"{name}*.nc"))
        damaged.write_bytes(b"cut short")
    app = start(copy, page="memory", tok="8")
    assert "The attribution in this bundle cannot be read." in written(app)
    shown = figures(app)
    app.session_state["gates"] = True
    app.run()
    assert "The gate selectivity in this bundle cannot be read." in written(app)
    assert figures(app) == shown + 3 and "Not in this bundle" not in written(app)


def test_the_overview_lists_missing_parts(start: Start, tmp_path: Path) -> None:
    app = start(write_bundle(tmp_path / "one.engram", {"depth": parts()["depth"]}))
    text = written(app)
    assert "Parts missing: lens curve, Engram, lens curve, baseline, gates," in text
    assert figures(app) == 1


def test_without_gates_the_slots_still_carry_the_strip(start: Start, tmp_path: Path) -> None:
    kept = {name: part for name, part in parts().items() if name != "gates"}
    text = written(start(write_bundle(tmp_path / "some.engram", kept), page="tokens", prompt="0"))
    assert "Memory read at token" in text
    assert "bars from the top: layer 1 · stream 0; layer 1 · stream 1; layer 4 · stream 0" in text


def test_a_bundle_without_prompts(start: Start, tmp_path: Path) -> None:
    app = start(write_bundle(tmp_path / "one.engram", {"depth": parts()["depth"]}), page="tokens")
    assert "No prompts in this bundle." in written(app)


def test_a_prompt_the_bundle_keeps_no_slots_for(start: Start, bundle: Path) -> None:
    text = written(start(bundle, page="tokens", prompt="1"))
    assert "No slots for this prompt in this bundle." in text
    assert "The bundle keeps a slot for some prompts only: 0." in text


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"tok": "99"}, "Token 99 is not among the 9 of this prompt; token 8 is shown."),
        ({"tok": "-4"}, "Token -4 is not among the 9 of this prompt; token 0 is shown."),
        ({"tok": "-1"}, "The link names the token “-1”; they count from 0."),
        ({"tok": "--5"}, "The link names the token “--5”, which is no number."),
        ({"cell": "--1.2"}, "The link names the layer “--1”, which is no number."),
        ({"tok": "x"}, "The link names the token “x”, which is no number."),
        ({"layer": "12"}, "There is no layer 12 among the 7; layer 6 is shown."),
        ({"cell": "2.17"}, "There is no baseline layer 17 among the 5; layer 4 is shown."),
        ({"stream": "8"}, "There is no stream “8”; all streams are shown."),
        (
            {"prompt": "typed-0badcafe"},
            "“typed-0badcafe” is a text that was typed elsewhere and is not known",
        ),
        ({"prompt": "9"}, "The prompt “9” is not in this bundle; “0” is shown instead."),
        ({"b": "made"}, "There is no bundle “made” here; “made-up” is shown instead."),
    ],
)
def test_a_link_to_what_is_not_there(start: Start, bundle: Path, link: dict[str, str], said: str) -> None:
    assert said in written(start(bundle, **link))


def test_no_live_model(start: Start, bundle: Path, tmp_path: Path) -> None:
    app = start(bundle, "--model", tmp_path / "absent", page="tokens")
    text = written(app)
    assert app.text_input(key="typed text").disabled
    assert "Live runs are off." in text
    assert f"There is no model directory at {tmp_path / 'absent'}." in text
    assert "Nothing can be switched off here." in text


def test_marks_that_turn_a_line_around_are_shown_in_what_a_link_says(start: Start, bundle: Path) -> None:
    text = written(start(bundle, prompt="\u202eesrever"))
    assert "“‹U+202E›esrever”" in text and "\u202e" not in text


def test_the_overview_opens_another_bundle(start: Start, bundle: Path, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other.engram", parts())
    app = start(bundle, other)
    assert app.button(key="open made-up").disabled
    app.button(key="open other").click().run()
    assert app.query_params["b"] == "other" and app.button(key="open made-up").label.endswith(" MB")

"""The notebooks run from top to bottom, use the public interface, and end with a verdict."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engram_interp import arm_losses, arms, claims
from engram_interp.family import train_family
from engram_interp.model.training.recipe import Recipe, Schedule
from engram_interp.results import Verdict, open_bundle
from tests import support

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((REPOSITORY / "analyses").glob("[0-9c]*.py"))
PLAIN = {"n_layers": 2, "d_model": 12, "n_heads": 2, "d_mlp": 16, "n_ctx": 16}
MEMORY = {"layer_ids": (1,), "heads": 2, "d_row": 4, "rows": 40}
CLAIMS = [script for script in SCRIPTS if script.stem.startswith("claim_")]
PUBLIC = {
    "engram_interp",
    "engram_interp.capture",
    "engram_interp.checkpoints",
    "engram_interp.data",
    "engram_interp.memory",
    "engram_interp.metrics",
    "engram_interp.results",
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_uses_the_public_interface_alone(script: Path) -> None:
    tree = ast.parse(script.read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {name for name in modules if name.startswith("engram_interp")} <= PUBLIC
    private = [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr.startswith("_")]
    assert not private


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_asked_for_help_says_what_it_does_and_stops(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(script), run_name="__main__")
    assert not left.value.code and not list(tmp_path.iterdir())
    said = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    assert said is not None and capsys.readouterr().out.strip() == said


def test_known_answers_in_the_reduced_setting(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = _run("00_known_answers.py", out, tmp_path)
    assert done.returncode == 0, done.stderr
    verdict = done.stdout.splitlines()[-1]
    assert "Over 3 exchangeable pairs" in verdict and "held 1 in" in verdict
    assert "the path reads 1.00 and the lens 1.00 layers" in verdict
    names = {"known_answers.json", "known_answers.html", "known_answers.engram"}
    assert {path.name for path in out.iterdir()} == names
    bundle = open_bundle(out / "known_answers.engram")
    assert not bundle.problems() and len(bundle.names) == 5


def _run(name: str, out: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    settings = {"ENGRAM_INTERP_QUICK": "1", "ENGRAM_INTERP_OUT": str(out)}
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(REPOSITORY / "analyses" / name)],
        cwd=folder,
        env={**os.environ, **settings, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_are_ten_cells() -> None:
    text = (REPOSITORY / "analyses" / "01_depth_and_gates.py").read_text(encoding="utf-8")
    assert [int(n) for n in re.findall(r"^# %% (\d+) ", text, flags=re.MULTILINE)] == list(range(1, 11))


def test_depth_and_gates_in_the_reduced_setting(tmp_path: Path) -> None:
    done = _run("01_depth_and_gates.py", tmp_path / "out", tmp_path)
    assert done.returncode == 0, done.stderr
    verdict = done.stdout.splitlines()[-1]
    assert "not resolved at this scale" in verdict
    assert "no interval is possible" in verdict
    bundle = open_bundle(tmp_path / "out" / "01_depth_and_gates.engram")
    assert not bundle.problems()
    assert {"depth", "gates", "gate-statistics", "ablation"} <= set(bundle.names)
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


def test_the_memory_microscope_in_the_reduced_setting(tmp_path: Path) -> None:
    done = _run("02_memory_microscope.py", tmp_path / "out", tmp_path)
    assert done.returncode == 0, done.stderr
    verdict = done.stdout.splitlines()[-1]
    assert "Claim “edits are local” on this pair: not resolved at this scale" in verdict
    assert "after layer 1, memory off: " in done.stdout and "asked 6.0 logits" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"identity.nc", "edits.nc"}


def _claim(
    script: Path, out: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> Verdict:
    """Run a claim's script in this process, which has everything loaded already, and read its verdict."""
    for name, value in {"QUICK": "1", "OUT": str(out), **settings}.items():
        monkeypatch.setenv(f"ENGRAM_INTERP_{name}", value)
    monkeypatch.chdir(folder)
    with support.shapes_unchecked():
        runpy.run_path(str(script))
    [made] = claims.found([out]).values()
    return made


def _family(
    folder: Path,
    arms: dict[str, dict[str, Any] | None],
    *,
    model: dict[str, Any] = PLAIN,
    seeds: tuple[int, ...] = (0,),
) -> str:
    """Train tiny arms, given as the memory of each, for a few steps into a folder of runs."""
    for name, count, seed in (("text", 90, 0), ("valid", 12, 8)):
        text = "\n<|endoftext|>\n".join(support.documents(count, seed=seed))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    schedule = Schedule(tokens=6 * 4 * 16, batch=4, learning_rate=1e-2, warmup=2, evaluate_every=3)
    recipes = [
        Recipe(name=f"tiny-{arm}", d_vocab=290, model=model, engram=memory, schedule=schedule)
        for arm, memory in arms.items()
    ]
    texts, valid = [folder / "text.txt"], [folder / "valid.txt"]
    train_family(recipes, texts, out=folder / "runs", valid=valid, seeds=seeds)
    return str(folder / "runs")


@pytest.mark.parametrize("script", CLAIMS, ids=lambda path: path.stem)
def test_a_claim_in_the_reduced_setting(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = _claim(script, tmp_path / "out", tmp_path, monkeypatch)
    assert capsys.readouterr().out.splitlines()[-1] == made.summary()
    whole = ("claim_07_bigrams", "claim_10_placement", "claim_12_rows")  # packaged losses, and rows
    if script.stem == "claim_10_placement":
        assert made.word == "contradicted"
    if script.stem not in whole:
        assert made.word in ("not resolved at this scale", "not tested")  # a few prompts settle nothing
    assert made.data.attrs["script"] == script.name
    where = "in host memory" if script.stem == "claim_19_lookup_time" else "on the bundled pair wiki-nano"
    assert where in made.summary()
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


def test_a_claim_on_trained_arms_compares_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = _family(tmp_path, {"engram": MEMORY, "open": MEMORY | {"gate": "open"}})
    script = REPOSITORY / "analyses" / "claim_04_gates_matter.py"
    valid = str(tmp_path / "valid.txt")
    made = _claim(script, tmp_path / "out", tmp_path, monkeypatch, RUNS=runs, TEXT=valid)
    assert "on the family runs, one training run of each" in made.summary()
    assert "trained with the gate at 1, less gated, open seed 0" in made.summary()
    assert "no second seed" in made.summary() and "of 12 documents" in made.summary()
    monkeypatch.delenv("ENGRAM_INTERP_TEXT")
    bare = _claim(script, tmp_path / "bare", tmp_path, monkeypatch, RUNS=runs)
    assert "no losses of an arm trained without a gate" in bare.summary()


@pytest.mark.parametrize(
    ("script", "arm", "memory"),
    [
        ("claim_07_bigrams", "bigram", MEMORY | {"max_order": 2, "gate": "open", "conv_kernel": 0}),
        ("claim_10_placement", "late", MEMORY | {"layer_ids": (0,)}),
        ("claim_11_compression", "raw-ids", MEMORY | {"compression": "none"}),
    ],
)
def test_claims_of_losses_read_those_that_were_saved(
    script: str, arm: str, memory: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = "no-conv" if arm == "bigram" else "engram"  # which differs in the fewest things
    recipes: dict[str, dict[str, Any] | None] = {"engram": MEMORY, arm: memory}
    if arm == "bigram":
        recipes[reference] = MEMORY | {"conv_kernel": 0}
    runs = _family(tmp_path, recipes, seeds=(0, 1))
    found = arm_losses.losses(arms.load(runs), [tmp_path / "valid.txt"], n_boot=20)
    paired = arm_losses.join([found], references=(reference,)).between(arm, reference)[f"{arm} seed 1"]
    saved = str(found.save(tmp_path / "losses.nc"))
    path = REPOSITORY / "analyses" / f"{script}.py"
    made = _claim(path, tmp_path / "out", tmp_path, monkeypatch, RUNS=runs, LOSSES=saved)
    row = next(row for row in made.rows() if f"{arm} seed 1" in str(row["measure"]))
    assert row["role"] == "decides"
    assert row["value"] == pytest.approx(float(paired["difference"]))
    assert "no losses of" not in made.summary() or arm == "late"  # its claim has a second part


def test_experts_with_and_without_a_memory_are_compared_seed_by_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture = PLAIN | {"n_experts": 4, "experts_per_token": 2, "d_expert": 8}
    runs = _family(tmp_path, {"moe": None, "moe-engram": MEMORY}, model=mixture)
    script = REPOSITORY / "analyses" / "claim_17_experts.py"
    made = _claim(script, tmp_path / "out", tmp_path, monkeypatch, RUNS=runs)
    decides = [row["measure"] for row in made.rows() if row["role"] == "decides"]
    told = "what the choice tells of the last two tokens, without memory, seed0, layer 1"
    assert decides == [f"{told}, as it is", f"{told}, of ln(experts)"]
    assert made.word == "not resolved at this scale"


@pytest.mark.parametrize("script", ["claim_09_attention", "claim_18_early_layers"])
def test_without_another_seed_of_the_baseline_a_difference_stays_open(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = REPOSITORY / "analyses" / f"{script}.py"
    runs = _family(tmp_path, {"dense": None, "engram": MEMORY}, model=PLAIN | {"n_ctx": 64}, seeds=(0, 1))
    made = _claim(path, tmp_path / "out", tmp_path, monkeypatch, RUNS=runs)
    deciding = [row for row in made.rows() if row["role"] == "decides"]
    assert deciding and all("another baseline seed" in row["compared_with"] for row in deciding)
    assert "control" not in made.data["role"].values
    shutil.rmtree(Path(runs) / "tiny-dense-seed1")
    alone = _claim(path, tmp_path / "alone", tmp_path, monkeypatch, RUNS=runs)
    assert alone.data["role"].values.tolist().count("control") == 1
    assert alone.word == "not resolved at this scale" and "no second seed" in alone.summary()

"""Packaged verdicts follow from the packaged results, by the scripts as they stand; no model is needed."""

import re
import runpy
import shutil
import tarfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engram_interp import (
    ablation,
    arms,
    attention,
    checkpoints,
    claims,
    crowding,
    depth,
    domains,
    editing,
    experts,
    gates,
    lens_depth,
    skipping,
    slots,
    stitching,
)
from engram_interp.results import Result
from tests import support

ASSETS = Path(str(files("engram_interp") / "assets"))
ANALYSES = Path(__file__).resolve().parent.parent / "analyses"
PACKAGED = claims.found()
READS_RESULTS = (1, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 18, 20)
"""Claims whose verdict rests on results and losses in the package; the others want texts or a clock."""


class Stored:
    """The results that one verdict rests on, in place of the functions that measured them."""

    def __init__(self, folder: Path, models: str) -> None:
        self.folder, self.models = folder, models

    def __call__(self, *keys: str) -> Result:
        """The first of these that is there."""
        for key in keys:
            if (self.folder / f"{key}.nc").is_file():
                return Result.load(self.folder / f"{key}.nc")
        raise AssertionError(f"no {' or '.join(keys)} in {self.folder}")

    def model(self, run: arms.Run, *, step: str = "") -> SimpleNamespace:
        """What a script asks of a model before it is measured."""
        layers = (run.training["recipe"].get("engram") or {}).get("layer_ids", ())
        name = f"{run.name} at step {step}" if step else run.name
        return SimpleNamespace(
            name=name, digest="unknown", arm=run.arm, seed=run.seed, memory_layers=tuple(layers), counts=True
        )

    def kept(self, run: arms.Run) -> dict[int, SimpleNamespace]:
        """The kept models that were measured, by step."""
        steps = re.findall(rf"{run.name} at step ([\d,]+)", self.models)
        return {_number(step): self.model(run, step=step) for step in sorted(set(steps), key=_number)}

    def around(self, run: arms.Run, _: arms.Run) -> list[tuple[int, float, SimpleNamespace]]:
        """Those between which the loss passed the baseline's, the earlier one first."""
        kept = self.kept(run)
        signs = {2: (0.1, -0.1), 1: (0.1,), 0: ()}[len(kept)]
        return [(step, sign, model) for (step, model), sign in zip(kept.items(), signs, strict=True)]

    def view(self, name: str) -> Callable[..., Result]:
        """One of claim 1's views of a model, by what the script calls it."""

        def compare(model: Any, baseline: Any, texts: Any, **_: Any) -> Result:
            key = f"{name}-{model.arm}-seed-{model.seed}"
            if " at step " in model.name and model.arm in {"dense", "moe"}:
                step = _number(model.name.rpartition(" ")[2])
                return self(f"{key}-at-step-{step}-against-seed-{baseline.seed}")
            if " at step " in model.name:
                run = model.name.partition(" at step ")[0]
                steps = sorted(set(re.findall(rf"{run} at step ([\d,]+)", self.models)), key=_number)
                when = ("before", "after")[steps.index(model.name.rpartition(" ")[2])]
                return self(f"{key}-{when}-equal-loss")
            keys = key, f"{name}-{model.arm}", f"{name}-{baseline.name}-beside-another-seed"
            if model.arm in {"dense", "moe"} and not (self.folder / f"{keys[-1]}.nc").is_file():
                return cast(Result, SimpleNamespace(data={}, summary=lambda: "not measured"))
            return self(*keys)

        return compare


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _measured(stored: Stored) -> list[tuple[Any, str, Callable[..., Result]]]:
    """Module, function, and what stands in its place."""

    def pair(kind: str) -> Callable[..., Result]:
        def one(model: Any, texts: Any, *, baseline: Any, **_: Any) -> Result:
            name = "another-seed" if model.arm == baseline.arm else f"seed{model.seed}"
            return stored(f"{kind}-shuffled" if model.arm == "shuffled" else f"{kind}-{name}")

        return one

    def effect(model: Any, texts: Any, *, orders: Any = None, **_: Any) -> Result:
        return stored(
            f"gates-held-seed{model.seed}" if orders is None else f"order-{orders[0]}-seed{model.seed}"
        )

    def gain(model: Any, baseline: Any, texts: Any, **_: Any) -> Result:
        again = model.arm == baseline.arm
        return stored("gain-another-seed" if again else f"gain-{model.arm}-seed{model.seed}")

    return [
        (ablation, "effect", effect),
        (gates, "usefulness", lambda m, *_, **__: stored(f"usefulness-seed{m.seed}")),
        (depth, "compare", stored.view("CKA")),
        (lens_depth, "compare", stored.view("lens")),
        (stitching, "compare", stored.view("stitching")),
        (gates, "selectivity", lambda m, *_, **__: stored(f"selectivity-{m.arm}-seed{m.seed}")),
        (gates, "preference", lambda m, *_, **__: stored(f"preference-seed{m.seed}")),
        (crowding, "effect", lambda m, *_, **__: stored(f"crowding-seed{m.seed}")),
        (editing, "evaluate", lambda m, *_, **__: stored(f"edits-seed{m.seed}")),
        (slots, "trained_rows", lambda m, **_: stored(f"rows-seed{m.seed}")),
        (experts, "use", lambda each, *_, **__: stored(f"experts-seed{each['with'].seed}")),
        (attention, "reach", pair("reach")),
        (skipping, "effect", pair("skipping")),
        (domains, "gain", gain),
    ]


def rejudge(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> claims.Verdict:
    """The verdict that a claim's script gives on the results in the package."""
    script = ANALYSES / claims.claim(number).script
    models = str(PACKAGED[number].data.attrs["models"])
    with tarfile.open(ASSETS / "claims" / f"{script.stem}.tar.xz") as results:
        results.extractall(folder / "results", filter="data")
    stored = Stored(folder / "results", models)
    for record in (ASSETS / "arms").glob("nano-*"):
        if re.search(rf"{record.name}\b", models):
            shutil.copytree(record, folder / "nano" / record.name)
    monkeypatch.setenv("ENGRAM_INTERP_RUNS", str(folder / "nano"))
    for name in ("QUICK", "ENTITIES", "TEXT"):
        monkeypatch.delenv(f"ENGRAM_INTERP_{name}", raising=False)
    monkeypatch.setenv("ENGRAM_INTERP_LOSSES", str(ASSETS / "arms" / "losses.nc"))
    monkeypatch.setattr(arms.Run, "load", lambda run: stored.model(run))  # noqa: PLW0108  # binds the run
    monkeypatch.setattr(arms.Run, "kept", lambda run: stored.kept(run))  # noqa: PLW0108
    monkeypatch.setattr(checkpoints, "load_model", lambda model, **_: model)
    monkeypatch.setattr(arms.Run, "around", lambda run, other: stored.around(run, other))  # noqa: PLW0108
    for module, name, instead in _measured(stored):
        monkeypatch.setattr(module, name, instead)
    if number == 8:
        monkeypatch.setattr(editing, "plan", lambda *_, **__: None)
        monkeypatch.setattr(arms.Run, "load", lambda run: _spelling(stored.model(run)))
    kept: list[claims.Verdict] = []
    monkeypatch.setattr(claims, "keep", lambda verdict, *_: kept.append(verdict))
    with support.shapes_unchecked():
        runpy.run_path(str(script))
    [made] = kept
    return made


def _facts(folder: Path) -> list[dict[str, Any]]:
    return [dict(Result.load(path).data.attrs) for path in sorted(folder.glob("*.nc"))]


def _spelling(model: SimpleNamespace) -> SimpleNamespace:
    """A model that has two tokens, for a script that draws words."""
    model.d_vocab, model.token_text = 2, [" one", " two"].__getitem__
    return model


@pytest.mark.parametrize("number", [n for n in READS_RESULTS if n in PACKAGED])
def test_a_packaged_verdict_follows_from_the_packaged_results(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, packaged = rejudge(number, tmp_path, monkeypatch), PACKAGED[number]
    for one, other in zip(made.rows(), packaged.rows(), strict=True):
        assert one == pytest.approx(other, nan_ok=True)
    assert made.word == packaged.word
    if number == 3:  # its script's settings have changed since it was measured
        [(of, few)] = {(r["n_documents"], r["n_init_documents"]) for r in _facts(tmp_path / "results")}
        assert (packaged.data.attrs["n_documents"], packaged.data.attrs["init_documents"]) == (of, few)
    assert made.data.attrs["rule"] == packaged.data.attrs["rule"]

"""The same analysis at several checkpoints: step is an axis, and every result comes back."""

from pathlib import Path

import numpy as np
import pytest

from engram_interp import gates, lens, series
from engram_interp.checkpoints import SubjectModel
from engram_interp.checkpoints.native import save_native
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.results import ConvergenceResult, Result, Series
from tests import support

TEXTS = [*support.documents(2, seed=6), "Kalo"]
STEPS = (300, 0, 40)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("run")
    return {
        step: save_native(folder / f"step-{step}", support.model(seed=step), tokenizer=support.tokenizer())
        for step in STEPS
    }


def test_steps_are_an_axis_and_results_come_back(folders: dict[int, Path], tmp_path: Path) -> None:
    made: dict[str, ConvergenceResult] = {}

    def analysis(model: SubjectModel) -> Result:
        made[model.name] = lens.convergence(model, TEXTS, n_boot=5)
        return made[model.name]

    found = series.run(folders, analysis)
    assert found.steps == [0, 40, 300] and list(made) == ["step-0", "step-40", "step-300"]
    assert found.data["kl"].dims == ("step", "layer")
    assert found.data["model_by_step"].values.tolist() == ["step-0", "step-40", "step-300"]
    for place, name in enumerate(made):
        np.testing.assert_array_equal(found.data["kl"][place], made[name].data["kl"])
    again = Series.load(found.save(tmp_path / "series.nc"))
    back = again.at(40)
    assert isinstance(back, ConvergenceResult)
    assert back.data.identical(made["step-40"].data)
    assert again.summary().startswith("3 checkpoints; at step 0: KL(final ‖ layer) of step-0")
    assert "At step 300: KL(final ‖ layer) of step-300" in again.summary()
    assert len(again.plot(variable="kl").data) == 4
    frame = again.to_frame("kl")
    assert {"step", "layer"} <= set(frame.columns) | set(frame.index.names)
    with pytest.raises(InputError, match=r"'document_kl' cannot be drawn by step; agreement, kl, "):
        again.plot(variable="document_kl")
    with pytest.raises(InputError, match="has the steps 0, 40 and 300, got 41"):
        again.at(41)


def test_results_with_text_and_missing_values(folders: dict[int, Path]) -> None:
    found = series.run(folders, lambda model: gates.read(model, TEXTS))
    assert found.data["gate"].dims == ("step", "prompt", "layer", "stream", "token")
    alone = gates.read(support.subject(seed=40, name="step-40"), TEXTS).data
    back = found.at(40).data
    np.testing.assert_array_equal(back["gate"], alone["gate"])
    assert back["token_text"].values.tolist() == alone["token_text"].values.tolist()
    assert back["gate"].attrs["missing"] == alone["gate"].attrs["missing"]


def test_results_that_do_not_belong_together(folders: dict[int, Path]) -> None:
    model = support.subject()
    read = {step: gates.read(model, TEXTS[:step]) for step in (1, 2)}
    with pytest.raises(InputError, match=r"steps 1 and 2 differ in their sizes .* on the same prompts"):
        Series.of(read)
    other = gates.read(model, [text.replace("a", "o") for text in TEXTS])
    one, two = gates.read(model, ["Kalo", "Dor of"]), gates.read(model, ["Dor of", "Kalo"])
    with pytest.raises(InputError, match="steps 0 and 5 are of different texts"):
        Series.of({0: one, 5: two})
    with pytest.raises(InputError, match="results of one kind, got gate_reading, lens_convergence"):
        Series.of({0: other, 5: lens.convergence(model, TEXTS, n_boot=2)})
    with pytest.raises(InputError, match="results of one kind, got none"):
        Series.of({})
    baseline = support.subject(support.model_config(memory=support.memory_config(layer_ids=(0, 3))))
    with pytest.raises(InputError, match="steps 0 and 1 differ in layer; analyse"):
        Series.of({0: gates.read(model, TEXTS), 1: gates.read(baseline, TEXTS)})
    with pytest.raises(InputError, match="at least one checkpoint, got none"):
        series.run({}, lambda model: gates.read(model, TEXTS))


def test_a_checkpoint_that_cannot_be_opened_is_named(folders: dict[int, Path], tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((folders[0] / name).read_bytes()[: -20 if name[0] == "m" else None])
    with pytest.raises(DamagedFileError, match=r"checkpoint of step 7 cannot be opened: .* cut short"):
        series.run({0: folders[0], 7: tmp_path}, lambda model: gates.read(model, TEXTS))

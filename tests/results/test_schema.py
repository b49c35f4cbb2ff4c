"""The schema: what it wants, and the words with which it refuses."""

import numpy as np
import pytest
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.results import ConvergenceResult, DepthResult, GateReading, GateStatistics
from engram_interp.results.schema import Schema, counted, flags, floats, ints, texts, with_interval
from tests.results import samples

SCHEMA = Schema(
    coords={"layer": ints("layer", "layer", "layer"), "rank": counted("rank", "rank", "rank")},
    variables={
        "gain": floats("layer rank", "nats", "gain"),
        "edge": flags("layer", "edge"),
        "word": texts("layer", "word", optional=True),
        **with_interval("total", floats("", "nats", "total")),
    },
)


def arrays() -> dict[str, object]:
    return {
        "gain": np.ones((3, 2)),
        "edge": np.zeros(3, bool),
        "total": 1.0,
        "total_low": 0.0,
        "total_high": 2.0,
    }


def build(**changes: object) -> xr.Dataset:
    made = SCHEMA.dataset(coords={"layer": [0, 1, 4]}, variables=arrays() | changes, missing={})  # type: ignore[arg-type]
    return SCHEMA.labelled(made, owner="Thing")


def test_arrays_get_dims_units_and_meanings() -> None:
    data = build(word=["a", "", "é"])
    assert data["gain"].dims == ("layer", "rank")
    assert data["gain"].attrs == {"units": "nats", "long_name": "gain"}
    assert data["rank"].values.tolist() == [0, 1]
    assert data["layer"].attrs["units"] == "layer"
    assert data["total_low"].attrs["long_name"] == "total, lower end of the 95 % interval"


def test_an_optional_variable_may_be_absent() -> None:
    assert "word" not in build()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gain": np.ones(3)}, r"'gain' wants 2 axes \(layer, rank\), got shape \(3,\)"),
        ({"gain": np.ones((3, 2), int)}, "'gain' wants float values, got dtype int64"),
        ({"edge": np.zeros(3)}, "'edge' wants bool values, got dtype float64"),
        ({"word": [1, 2, 3]}, "'word' wants str values, got dtype int64"),
        ({"gian": np.ones(3)}, "'gian' is no variable .* did you mean gain"),
        ({"gain": np.full((3, 2), np.nan)}, "'gain' has undefined values .* no reason"),
    ],
)
def test_a_misfit_names_variable_wanted_and_got(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build(**changes)


def test_a_transposed_variable_is_refused() -> None:
    data = build().transpose()
    with pytest.raises(InputError, match=r"Thing: 'gain' wants dims \(layer, rank\), got \(rank, layer\)"):
        SCHEMA.labelled(data, owner="Thing")


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(InputError, match="Thing wants the variable 'edge' with dims"):
        SCHEMA.labelled(build().drop_vars("edge"), owner="Thing")


def test_a_missing_coordinate_is_named() -> None:
    with pytest.raises(InputError, match="wants the variable 'layer'"):
        SCHEMA.labelled(build().drop_vars("layer"), owner="Thing")


def test_a_wrong_unit_is_refused() -> None:
    data = build()
    data["gain"].attrs["units"] = "bits"
    with pytest.raises(InputError, match="'gain' wants units 'nats', got 'bits'"):
        SCHEMA.labelled(data, owner="Thing")


def test_a_layer_may_not_stand_twice() -> None:
    with pytest.raises(InputError, match="'layer' wants distinct values"):
        SCHEMA.labelled(build().assign_coords(layer=[0, 0, 1]), owner="Thing")


def test_an_added_variable_must_be_labelled() -> None:
    data = build().assign(extra=("layer", np.ones(3)))
    with pytest.raises(InputError, match="added variable 'extra' lacks units and long_name"):
        SCHEMA.labelled(data, owner="Thing")
    data["extra"].attrs = {"units": "1", "long_name": "something more"}
    assert "extra" in SCHEMA.labelled(data, owner="Thing")


def test_labelling_leaves_the_given_dataset_alone() -> None:
    bare = build()
    for name in bare.variables:
        bare[name].attrs = {}
    SCHEMA.labelled(bare, owner="Thing")
    assert not bare["gain"].attrs


def test_nan_keeps_its_reason() -> None:
    result = samples.depth(headline_low=np.nan, headline_high=np.nan,
                           missing={"headline_low": "too few", "headline_high": "too few"})  # fmt: skip
    assert result.data["headline_low"].attrs["missing"] == "too few"
    assert samples.gate_reading().data["gate"].attrs["missing"] == "right padding of shorter prompts"


def test_a_dataset_without_labels_makes_a_result_all_the_same() -> None:
    data = samples.convergence().data.copy(deep=True)
    data.attrs = {}
    for name in data.variables:
        data[name].attrs = {}
    result = ConvergenceResult(data=data)
    assert result.data["kl"].attrs["units"] == "nats"
    assert result.data.attrs["kind"] == "lens_convergence"


def test_data_of_another_kind_is_refused() -> None:
    data = samples.convergence().data.copy()
    data.attrs["kind"] = "depth"
    with pytest.raises(InputError, match="kind 'depth', wanted 'lens_convergence'"):
        ConvergenceResult(data=data)


def test_every_kind_labels_every_variable() -> None:
    for name, result in samples.every_kind().items():
        for variable in result.data.variables.values():
            assert variable.attrs["units"], name
            assert variable.attrs["long_name"], name


def test_an_unknown_null_is_refused() -> None:
    data = samples.gate_statistics().data.assign_coords(null=["untrained", "rows permuted", "coin toss"])
    data["null"].attrs = {}
    with pytest.raises(InputError, match=r"knows the nulls untrained, .*; got coin toss"):
        GateStatistics(data=data)


def test_provenance_takes_only_text_and_numbers() -> None:
    result = samples.depth(provenance={"notes": None, "exact": True, "rate": np.float32(0.5)})
    assert "notes" not in result.data.attrs
    assert result.data.attrs["exact"] == "true"
    assert result.data.attrs["rate"] == 0.5
    with pytest.raises(InputError, match="'layers' wants text or a number, got list"):
        samples.depth(provenance={"layers": [1, 4]})
    with pytest.raises(InputError, match="characters that no file keeps"):
        samples.depth(provenance={"notes": "a\0"})


def test_text_may_not_be_mixed_with_numbers() -> None:
    data = samples.gate_reading().data
    with pytest.raises(InputError, match="'prompt_text' wants str values"):
        GateReading.from_arrays(
            coords={"layer": data["layer"].values},
            variables={str(name): data[name].values for name in data.data_vars}
            | {"prompt_text": np.arange(2)},
        )


def test_the_kinds_are_those_of_the_contract() -> None:
    assert DepthResult.kind == "depth"
    assert {result.kind for result in samples.every_kind().values()} == {
        "depth", "lens_convergence", "lens_table", "gate_reading", "gate_statistics", "slot_lookup",
        "ablation_effect", "ablation_comparison", "memory_attribution", "memory_promotion",
        "gate_selectivity", "gate_usefulness", "retained_performance",
    }  # fmt: skip

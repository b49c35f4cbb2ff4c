"""Results survive a file, refuse what is not theirs, and turn into tables."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from engram_interp.errors import DamagedFileError, InputError
from engram_interp.results import DepthResult, GateReading, LensTable, Result
from tests.results import memory_samples, samples

KINDS = sorted(samples.every_kind())


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_result_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    result = samples.every_kind()[name]
    path = result.save(tmp_path / "part.nc")
    back = type(result).load(path)
    assert type(back) is type(result)
    xr.testing.assert_identical(back.data, result.data)
    assert isinstance(back.data.attrs["created"], str)
    assert [p.name for p in tmp_path.iterdir()] == ["part.nc"]


def test_awkward_strings_survive(tmp_path: Path) -> None:
    back = GateReading.load(samples.gate_reading().save(tmp_path / "gates.nc"))
    expected = [text.replace("\0", "␀") for text in memory_samples.TOKENS]
    assert back.data["token_text"].values[0].tolist() == expected
    assert back.data["prompt_text"].values.tolist() == ["one\ntext 😀", ""]


def test_text_with_nul_that_was_put_in_by_hand_survives(tmp_path: Path) -> None:
    data = samples.gate_reading().data.copy()
    texts = np.array(["ends in \0", "é"], dtype=object)
    data["prompt_text"] = ("prompt", texts)
    back = GateReading.load(GateReading(data=data).save(tmp_path / "gates.nc"))
    assert back.data["prompt_text"].values.tolist() == ["ends in \0", "é"]


def test_addresses_keep_all_their_bits(tmp_path: Path) -> None:
    data = samples.slot_lookup().data.copy(deep=True)
    data["address"][0, 0, 0] = 2**62 + 1
    result = type(samples.slot_lookup())(data=data)
    back = Result.load(result.save(tmp_path / "slots.nc"))
    assert int(back.data["address"][0, 0, 0]) == 2**62 + 1


def test_a_loaded_result_keeps_its_date_and_version(tmp_path: Path) -> None:
    result = samples.depth(provenance={"created": "2001-01-01T00:00:00+00:00"})
    back = DepthResult.load(result.save(tmp_path / "d.nc"))
    assert back.data.attrs["created"] == "2001-01-01T00:00:00+00:00"
    assert back.data.attrs["tool"] == "engram-interp"


def test_load_finds_the_class_by_the_kind(tmp_path: Path) -> None:
    assert isinstance(Result.load(samples.lens_table().save(tmp_path / "x.nc")), LensTable)


def test_load_refuses_another_kind(tmp_path: Path) -> None:
    path = samples.lens_table().save(tmp_path / "x.nc")
    with pytest.raises(InputError, match=r"holds a LensTable, not a DepthResult; use LensTable\.load"):
        DepthResult.load(path)


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    xr.Dataset(attrs={"kind": "horoscope"}).to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    with pytest.raises(
        InputError, match="kind 'horoscope', which this version does not know; it knows ablation_"
    ):
        Result.load(tmp_path / "x.nc")


def test_a_file_that_does_not_fit_its_kind_is_damaged(tmp_path: Path) -> None:
    xr.Dataset(attrs={"kind": "depth"}).to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    with pytest.raises(
        DamagedFileError, match="does not fit its kind 'depth': DepthResult wants the variable"
    ):
        Result.load(tmp_path / "x.nc")


@pytest.mark.parametrize("kept", [0, 40, 0.5, -7])
def test_a_file_cut_short_is_damaged(kept: float, tmp_path: Path) -> None:
    path = samples.ablation_comparison().save(tmp_path / "d.nc")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(DamagedFileError, match=r"d\.nc cannot be read as netCDF-4; it is cut short"):
        Result.load(path)


def test_a_file_of_another_sort_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "d.nc").write_text("hello")
    with pytest.raises(DamagedFileError, match="another kind of file"):
        DepthResult.load(tmp_path / "d.nc")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        DepthResult.load(tmp_path / "nowhere.nc")


def test_saving_does_not_replace_unasked(tmp_path: Path) -> None:
    path = samples.ablation_effect().save(tmp_path / "d.nc")
    with pytest.raises(InputError, match="exists; choose another name or pass overwrite=True"):
        samples.depth().save(path)
    samples.convergence().save(path, overwrite=True)
    assert Result.load(path).kind == "lens_convergence"


@pytest.mark.parametrize("folder", [False, True])
def test_saving_never_replaces_what_is_not_ours(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "notes.nc"
    if folder:
        path.mkdir()
    else:
        path.write_text("my notes")
    with pytest.raises(InputError, match="exists and is not ours"):
        samples.depth().save(path, overwrite=True)
    assert path.is_dir() or path.read_text() == "my notes"


def test_saving_into_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no folder .*; make it first"):
        samples.depth().save(tmp_path / "a" / "d.nc")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "dump_to_store", fail)
    with pytest.raises(OSError, match="disk full"):
        samples.depth().save(tmp_path / "d.nc")
    assert not list(tmp_path.iterdir())


def test_the_tidy_table_has_one_row_per_value() -> None:
    result = samples.depth()
    frame = result.to_frame()
    assert len(frame) == sum(array.size for array in result.data.data_vars.values())
    row = frame[(frame.variable == "cka") & (frame.layer == 3) & (frame.baseline_layer == 1)]
    assert row["value"].tolist() == [float(result.data["cka"].sel(layer=3, baseline_layer=1))]
    assert row["units"].tolist() == ["1"]
    assert frame[frame.variable == "headline"]["layer"].tolist() == [None]


def test_chosen_variables_become_columns() -> None:
    frame = samples.depth().to_frame("path_shift", "edge", "headline")
    assert list(frame.columns) == ["layer", "path_shift", "edge", "headline"]
    assert len(frame) == 7
    assert set(frame["headline"]) == {0.6}
    with pytest.raises(InputError, match="no variable nonsense here"):
        samples.depth().to_frame("nonsense")


def test_tables_take_awkward_text() -> None:
    frame = samples.gate_reading().to_frame("token_text", "gate")
    assert len(frame) == 2 * 2 * 3 * len(memory_samples.TOKENS)
    assert "\udce2\udc82" in set(frame["token_text"])
    assert len(samples.lens_table().to_frame())


def test_the_notebook_view_is_escaped() -> None:
    result = samples.depth(provenance={"engram": "<img src=x onerror=alert(1)>"})
    html = result._repr_html_()
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "cka[layer, baseline_layer]" in html


def test_the_plain_view_is_the_summary() -> None:
    assert repr(samples.depth()) == f"<DepthResult: {samples.depth().summary()}>"


def test_opening_results_loads_neither_torch_nor_streamlit(tmp_path: Path) -> None:
    path = samples.depth().save(tmp_path / "d.nc")
    code = (
        "import sys, engram_interp, engram_interp.results, engram_interp.views.page\n"
        "from engram_interp.results import Result\n"
        f"Result.load({str(path)!r}).plot()\n"
        "print([m for m in ('torch', 'streamlit', 'transformers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

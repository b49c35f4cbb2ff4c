"""Second opinions on depth: the same model is not shifted, every measure has its null, files round-trip."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engram_interp import opinions
from engram_interp.data import prompts
from engram_interp.errors import InputError
from engram_interp.results.opinions import SecondOpinions
from tests import support


def texts(count: int = 24) -> prompts.PromptSet:
    return prompts.from_texts([d[:150] for d in support.documents(count, seed=3)])


def baseline(**changes: Any) -> Any:
    return support.subject(support.model_config(**changes), seed=1, name="base")


def test_a_model_against_itself_is_not_shifted_and_reads_one() -> None:
    base = baseline()
    result = opinions.compare(base, base, texts(), n_boot=20, k=5)
    np.testing.assert_allclose(result.data["shift"], 0, atol=1e-12)
    own = np.diagonal(result.data["similarity"].values, axis1=1, axis2=2)
    np.testing.assert_allclose(own, 1, atol=1e-3)
    assert np.all(result.data["null"].mean(("layer", "baseline_layer")) < 0.6)


def test_it_says_whether_measures_agree_and_keeps_its_numbers(tmp_path: Path) -> None:
    result = opinions.compare(
        support.subject(), baseline(), texts(), reference=baseline(), n_boot=20, k=5, seed=2
    )
    data = result.data
    assert list(data["measure"].values) == list(opinions.MEASURES)
    assert "agree in sign" in result.summary() or "cannot be judged" in result.summary()
    timed = data["shift_low"].sel(measure="mutual k-NN")
    assert not np.isnan(timed).any()
    assert np.isnan(data["shift_low"].sel(measure="Procrustes")).all()
    n = int(data.attrs["n_samples"])
    assert float(data["chance"].sel(measure="mutual k-NN")) == pytest.approx(5 / (n - 1))
    assert {trace.name for trace in result.plot().data} >= set(opinions.MEASURES)
    again = SecondOpinions.load(result.save(tmp_path / "second.nc"))
    np.testing.assert_array_equal(again.data["headline"], data["headline"])


def test_too_few_documents_are_refused() -> None:
    with pytest.raises(InputError, match="from at least 5 documents"):
        opinions.compare(support.subject(), baseline(), texts(3))


def test_layers_that_no_measure_can_use_are_named() -> None:
    broken = baseline()
    hook = broken.module.get_submodule(broken.sites["blocks.1.hook_resid_post"])
    with (
        hook.register_forward_hook(lambda _m, _i, out: out.index_fill(1, torch.tensor([2]), torch.nan)),
        pytest.raises(InputError, match="base has NaN in the residual after layer 1 at token 2 of prompt"),
    ):
        opinions.compare(support.subject(), broken, texts(), k=5)
    with (
        hook.register_forward_hook(lambda _m, _i, out: torch.full_like(out, 0.3)),
        pytest.raises(InputError, match="base has the same residual after layer 1 at all"),
    ):
        opinions.compare(support.subject(), broken, texts(), k=5)


def test_the_baseline_given_as_its_own_reference_is_the_baseline_itself() -> None:
    base = baseline()
    alone, given = (
        opinions.compare(support.subject(), base, texts(), reference=reference, n_boot=5, k=5).data
        for reference in (None, base)
    )
    assert given.attrs["reference"] == "the baseline itself"
    for name in alone.data_vars:
        np.testing.assert_array_equal(given[name], alone[name], err_msg=str(name))

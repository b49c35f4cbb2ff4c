"""Tests of `engram_interp.lens_depth` on curves whose answer is known."""

import numpy as np
import pytest
from scipy import stats

from engram_interp import lens_depth
from engram_interp.errors import InputError
from engram_interp.metrics import bootstrap
from engram_interp.results import ConvergenceResult
from tests import support


def curve(kl: list[float], *, documents: int = 24, lens: str = "raw logit lens") -> ConvergenceResult:
    """A result whose documents differ by a factor that all models share."""
    values, tokens = np.asarray(kl, float), np.arange(5, 5 + documents)
    factor = 1 + 0.1 * np.sin(np.arange(documents))
    sums = tokens[:, None] * factor[:, None] * values
    names = [f"{n}{end}" for n in ("kl", "entropy", "next_loss") for end in ("", "_low", "_high")]
    return ConvergenceResult.from_arrays(
        coords={"layer": np.arange(len(kl))},
        variables={
            **dict.fromkeys([*names, "agreement"], values),
            "document_kl": sums,
            "document_tokens": tokens,
        },
        provenance={"lens": lens, "memory_layers": "1", "text_digest": "d", "n_documents": documents},
    )


BASE = [9.0, 7.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.0]


def test_a_model_against_itself_has_no_shift() -> None:
    data = lens_depth.from_convergence(curve(BASE), curve(BASE), n_boot=50).data
    np.testing.assert_array_equal(data["shift"], 0)
    assert float(data["headline_low"]) == float(data["headline_high"]) == 0


def test_an_inserted_identity_block_is_one_layer_behind() -> None:
    longer = [*BASE[:2], BASE[1], *BASE[2:]]
    result = lens_depth.from_convergence(curve(longer), curve(BASE), n_boot=50)
    np.testing.assert_allclose(result.data["shift"].values[2:], -1, atol=1e-9)
    assert "later" in result.summary() and "no proof of depth" in result.summary()
    result = lens_depth.from_convergence(curve(BASE), curve(longer), n_boot=50)
    np.testing.assert_allclose(result.data["shift"].values[2:], 1, atol=1e-9)
    assert "earlier" in result.summary()


def test_intervals_are_expanded_for_the_number_of_documents() -> None:
    rng, model, base = np.random.default_rng(0), curve(BASE), curve(BASE)
    sums = model.data["document_kl"]
    moved = model.data.assign(document_kl=sums * rng.uniform(0.8, 1.2, size=sums.shape))
    moved["document_kl"].attrs = sums.attrs
    data = lens_depth.from_convergence(ConvergenceResult(data=moved), base, n_boot=400, seed=3).data
    tokens = base.data["document_tokens"].values.astype(float)
    weights = bootstrap.group_weights(24, 400, 3)
    kls, curves = (
        (weights @ part.values) / (weights @ tokens)[:, None] for part in (moved["document_kl"], sums)
    )
    # BASE falls strictly, so reading across it is plain interpolation.
    drawn = [np.interp(-kl, -curve, np.arange(8.0))[3] - 3 for kl, curve in zip(kls, curves, strict=True)]
    reach = np.sqrt(24 / 23) * stats.t.ppf(0.975, 23)
    expected = np.quantile(drawn, [stats.norm.cdf(-reach), stats.norm.cdf(reach)])
    np.testing.assert_allclose([data["shift_low"][3], data["shift_high"][3]], expected)


def test_values_between_layers_and_beyond_the_ends() -> None:
    data = lens_depth.from_convergence(curve([10.0, 8.0, 5.0, 0.0, 0, 0, 0, 0]), curve(BASE), n_boot=9).data
    np.testing.assert_allclose(data["depth"].values[:3], [0, 0.5, 2.5])
    assert data["beyond"].values.tolist()[:3] == [True, False, False]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="raw and one of the tuned"):
        lens_depth.from_convergence(curve(BASE), curve(BASE, lens="tuned lens"))
    with pytest.raises(InputError, match="other documents"):
        lens_depth.from_convergence(curve(BASE), curve(BASE, documents=25))


def test_models_are_run_and_few_documents_have_no_interval() -> None:
    model = support.subject()
    result = lens_depth.compare(model, model, support.documents(3, seed=5), reference=model)
    np.testing.assert_array_equal(result.data["shift"], 0)
    assert np.isnan(result.data["shift_low"]).all()
    np.testing.assert_array_equal(result.data["reference_shift"], 0)
    assert result.plot().data
    other = lens_depth.compare(model, model, support.documents(3, seed=5), direction="layer||final")
    assert other.data.attrs["direction"] == "KL(layer ‖ final)"


def test_a_control_beyond_the_curve_is_no_control() -> None:
    result = lens_depth.from_convergence(curve([10.0, *BASE[1:]]), curve(BASE), n_boot=9)
    assert np.isnan(float(result.data["control_shift"]))
    assert "beyond the ends" in result.summary()

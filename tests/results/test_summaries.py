"""Summaries claim no more than interval, control and null allow."""

import numpy as np
import pytest

from engram_interp.results import AblationComparison, DepthResult, GateStatistics
from engram_interp.views import comparing, headlines, predictions
from tests.results import samples

NO_CLAIM = "no evidence of depth beyond what residuals before the first memory read show too"


def test_a_shift_beyond_its_control_is_stated_with_everything_beside_it() -> None:
    text = samples.depth().summary()
    for words in (
        "with-memory against without",
        "monotone path, minibatch CKA, 1,204 samples of 64 documents",
        "+0.60 layers (95 % interval [0.40, 0.80]), +0.55 without the rows of largest norm in some layer",
        "internal control, 2 residuals before that read, +0.05 layers (95 % interval [−0.10, 0.20])",
        "resemble later baseline layers",
        "beyond what residuals before the first memory read show",
        "by similarity alone (which is not function)",
        "these two models only, one training run of each",
    ):
        assert words in text
    assert text.count(". ") == 0
    assert text.endswith(".")


@pytest.mark.parametrize(
    "control",
    [
        {"control_shift": 0.5, "control_shift_low": 0.3, "control_shift_high": 0.7},  # overlaps
        {"control_shift": 3.45, "control_shift_low": 3.0, "control_shift_high": 3.9},  # exceeds
        {
            "control_shift": -1.0,
            "control_shift_low": -1.2,
            "control_shift_high": -0.8,
        },  # as large, other sign
    ],
)
def test_no_depth_is_claimed_that_the_control_shows_too(control: dict[str, float]) -> None:
    text = samples.depth(**control).summary()
    assert NO_CLAIM in text
    assert "resemble later" not in text


def test_a_control_without_interval_supports_no_claim() -> None:
    ends = {f"control_shift_{end}": np.nan for end in ("low", "high")}
    text = samples.depth(**ends, missing=dict.fromkeys(ends, "one layer")).summary()
    assert NO_CLAIM in text
    assert "no interval" in text


def test_an_interval_that_includes_zero_is_said() -> None:
    text = samples.depth(headline=0.1, headline_low=-0.2, headline_high=0.4).summary()
    assert "the interval includes 0, so there is no evidence of a depth shift" in text


def test_no_interval_no_claim_and_the_reason() -> None:
    ends = {f"headline_{end}": np.nan for end in ("low", "high")}
    text = samples.depth(**ends, missing=dict.fromkeys(ends, samples.NO_INTERVAL)).summary()
    assert f"no interval is possible ({samples.NO_INTERVAL}), so no claim of depth is made" in text
    assert "+0.60 layers (no interval)" in text


def test_no_shift_at_all_is_said_with_its_reason() -> None:
    text = samples.depth(
        headline=np.nan, missing={"headline": "no interior layer after the first read"}
    ).summary()
    assert "no shift could be measured (no interior layer after the first read)" in text


def test_outliers_that_carry_the_shift_take_the_claim_away() -> None:
    text = samples.depth(headline_trimmed=0.05).summary()
    assert "a few rows of large norm carry the shift, so no claim of depth is made" in text


def test_a_negative_shift_reads_earlier() -> None:
    text = samples.depth(
        headline=-0.9, headline_low=-1.2, headline_high=-0.5, headline_trimmed=-0.8
    ).summary()
    assert "resemble earlier baseline layers" in text


def test_memory_at_the_first_layer_leaves_no_control() -> None:
    control = dict.fromkeys(("control_shift", "control_shift_low", "control_shift_high"), np.nan)
    reason = "memory is read in the first layer"
    result: DepthResult = samples.depth(
        pre_memory=np.zeros(7, bool), **control, missing=dict.fromkeys(control, reason)
    )
    assert f"no internal control ({reason})" in result.summary()
    assert "with no residual before the first read to serve as a control" in result.summary()


def test_gates_apart_from_untrained_ones_are_counted() -> None:
    text = samples.gate_statistics().summary()
    assert "6 of 6 differ in mean" in text
    assert "untrained gates have mean 0.50 and sd 0.20" in text
    assert "Kolmogorov–Smirnov distance to one of them up to 0.310" in text
    assert "from one initialisation only" in text
    assert "does not show that the gates are not as initialised" in text


def test_gates_count_as_different_only_where_they_are_rare_among_initialisations() -> None:
    def ranked(mean: float, sd: float) -> GateStatistics:
        """The sample, whose intervals are all apart, with its ranks among initialisations."""
        data = samples.gate_statistics().data.assign_coords(statistic=["mean", "sd"]).assign_attrs(n_inits=40)
        p = np.broadcast_to(np.reshape([mean, sd], (2, 1, 1)), (2, 2, 3))
        dims = ("statistic", "layer", "stream")
        return GateStatistics(data=data.assign(init_p=(dims, p), untrained_p_all=min(mean, sd)))

    text = ranked(0.29, 1 / 41).summary()
    assert "0 of 6 differ in mean and 6 of 6 differ in sd (rank p ≤ 0.05 among the initialisations" in text
    assert "the gates are not as initialised, not that they help" in text
    assert "no evidence that any gate" in ranked(0.29, 0.5).summary()


def test_gates_like_untrained_ones_are_said_to_be_so() -> None:
    text = samples.gate_statistics(shifted=0.001).summary()
    assert "no evidence that any gate differs from an untrained one" in text


def test_gates_without_interval_claim_nothing() -> None:
    text = samples.gate_statistics(interval=np.nan).summary()
    assert f"no interval is possible ({samples.NO_INTERVAL}), so no difference is claimed" in text


def test_gates_without_null_cannot_be_read() -> None:
    data = samples.gate_statistics().data
    without = type(samples.gate_statistics())(data=data.sel(null=["queries permuted"]))
    assert "no untrained null beside them (queries cannot be permuted" in without.summary()


def test_ablations_are_read_against_their_control() -> None:
    text = samples.ablation_effect().summary()
    zero, rows, output = text.split(": ", 1)[1].split("; ")[:3]
    assert zero.endswith("beyond the control")
    assert rows.endswith("not distinguishable from the control")
    assert output.endswith("no evidence of an effect")
    assert "off its training distribution, which overstates how much it relies on memory" in text


def test_an_ablation_without_control_claims_nothing() -> None:
    nan = np.full(3, np.nan)
    names = [f"control_delta_loss{end}" for end in ("", "_low", "_high")]
    text = samples.ablation_effect(
        **dict.fromkeys(names, nan), missing=dict.fromkeys(names, "not run")
    ).summary()
    assert text.count("no control to read it against (not run), so nothing is claimed") == 3


def test_one_prompt_has_no_interval() -> None:
    text = samples.ablation_comparison().summary()
    assert "gate_zero at layers 1,4. It moves the prediction after token 8" in text
    assert "one prompt, so no interval is possible" in text
    assert "random rows" in text
    assert "a random change of the same size" in text


def test_an_effect_is_told_in_multiples_of_its_larger_control() -> None:
    data = samples.ablation_comparison().data.copy(deep=True)
    at = int(data["token_index"])
    for condition, kl in (("ablated", 1.5), ("random rows", 0.25), ("random direction", 0.1)):
        data["kl"].loc[{"condition": condition, "token": at}] = kl
    assert ", 6.0 × the larger control: top token" in AblationComparison(data=data).summary()
    data["kl"].loc[{"condition": ["random rows", "random direction"], "token": at}] = 0.0
    assert "×" not in AblationComparison(data=data).summary()


def test_an_effect_is_read_against_every_draw_of_its_controls() -> None:
    data = samples.ablation_comparison().data.copy(deep=True)
    at = int(data["token_index"])
    data["kl"].loc[{"condition": "ablated", "token": at}] = 1.5
    kl = np.zeros((2, 4, data.sizes["token"]))
    kl[0, :, at], kl[1, :, at] = [0.25, 2.5, 1.0, 0.25], [0.1, 0.2, 0.3, 0.2]
    data["control_kl"] = (("control", "draw", "token"), kl)
    data["control_answer"] = (("control", "draw"), np.log([[0.5, 0.25, 0.1, 0.2], [0.3, 0.3, 0.3, 0.4]]))
    data = data.assign_coords(control=["random rows", "random direction"], draw=range(4))
    found = AblationComparison(data=data)
    assert (
        "by 1.500 nats of KL, further than 3 of 4 draws of random rows (0.250 to 2.500) and 4 of 4 random "
        "changes of the same size (0.100 to 0.300), 1.5 × the larger control’s mean: top token"
    ) in found.summary()
    columns, table = predictions.columns(data), comparing.runs_table({"A": data})
    assert "the answer in 4 draws: 0.100 to 0.500" in columns and "the answer in 4 draws: 0.300" in columns
    assert "4 draws: 0.250 to 2.500" in table and "4 draws: 0.100 to 0.300" in table
    alike = AblationComparison(data=data.assign(control_kl=data["control_kl"] * 0 + 0.5))
    assert "3 of 4" not in alike.summary() and "draws of random rows (all 0.500)" in alike.summary()
    bars = {trace.name: trace.error_y for trace in found.plot().data if trace.type == "bar"}
    shown = float(data["kl"].sel(condition="random rows", token=at))
    np.testing.assert_allclose(bars["random rows"].array[at], 2.5 - shown)
    np.testing.assert_allclose(bars["random rows"].arrayminus[at], max(shown - 0.25, 0))
    assert bars["ablated"].array is None


def test_an_ablation_without_its_control_is_refused() -> None:
    data = samples.ablation_comparison().data.sel(condition=["intact", "ablated"])
    with pytest.raises(ValueError, match="random rows, random direction is not there"):
        type(samples.ablation_comparison())(data=data)


def test_one_lens_curve_says_nothing_about_depth() -> None:
    text = samples.convergence().summary()
    assert "7.000 nats [6.650, 7.420] after layer 0" in text
    assert "raw logit lens" in text
    assert "says nothing about depth" in text


def test_the_lens_names_the_layer_from_which_the_answer_stands() -> None:
    assert "from layer 2 on (the last is 3)" in samples.lens_table().summary()


def test_summaries_show_awkward_tokens_safely() -> None:
    for result in samples.every_kind().values():
        text = result.summary()
        assert "\0" not in text
        assert "\u202e" not in text
        assert "\n" not in text
        text.encode()


def test_a_control_of_exactly_nothing_is_a_weak_one_and_one_beside_it_still_holds() -> None:
    data = samples.depth().data.copy(deep=True)

    def told(value: float) -> str:
        for end in ("", "_low", "_high"):
            data[f"control_shift{end}"] = data[f"control_shift{end}"] * 0 + value
        return DepthResult(data=data).summary()

    text = told(0.0)
    assert "before that read, exactly 0 layers in every resample: a weak control" in text
    assert "beyond what residuals before the first memory read show" in text
    assert "in every resample: a weak control" in headlines.headline(data)
    assert NO_CLAIM in told(1.0) and "weak" not in headlines.headline(data)
    nothing = data.assign({f"headline{end}": data["headline"] * 0 for end in ("", "_low", "_high")})
    assert "weak" not in headlines.headline(nothing)

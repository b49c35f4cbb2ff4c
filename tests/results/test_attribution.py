"""What an attribution says: the sum, the control beside it, and what it leaves out."""

from engram_interp.results import MemoryAttribution
from tests.results import memory_samples


def test_the_summary_states_sum_control_largest_read_and_limits() -> None:
    result = memory_samples.memory_attribution()
    text = result.summary()
    memory, rest = float(result.data["memory"]), float(result.data["rest"].sum())
    for words in (
        "The logit of “␣Wales” after token 8",
        f"is {memory + rest:.3f} in with-memory: memory at layers 1 and 4 gives +{memory:.3f}",
        f"95 % of draws in [{0.1 * memory - 0.2:.3f}, {0.1 * memory + 0.3:.3f}])",
        "beyond what random rows give",
        f"everything else +{rest:.3f}",
        "the largest single read is of",
        "what later layers compute from these writes is counted as theirs",
        "no interval is possible",
    ):
        assert words in text


def test_what_random_rows_give_too_is_not_called_beyond_them() -> None:
    within = memory_samples.memory_attribution(memory=0.1, control_memory_low=-0.2, control_memory_high=0.3)
    assert "gives +0.100" in within.summary()
    assert "within what random rows give" in within.summary()


def test_a_difference_names_both_tokens() -> None:
    data = memory_samples.memory_attribution().data.copy()
    data.attrs["against"] = "\n"
    assert MemoryAttribution(data=data).what == "the logit of “␣Wales” minus that of “↵”"


def test_the_largest_of_many_is_read_beside_the_largest_of_random_rows() -> None:
    result = memory_samples.memory_promotion()
    best = result.data["effect"].isel(part=0, direction=0, rank=0)
    text = result.summary()
    for layer in (1, 4):
        value = float(best.sel(layer=layer))
        said = "beyond" if value > 1.0 else "no more than"
        assert f"the first by +{value:.3f}, which is {said} what random rows" in text
    assert "large by chance too" in text

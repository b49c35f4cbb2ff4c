"""Tests of `ablation.retained`: scores by hand, ratios where they are known, strata, refusals."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from engram_interp import ablation, gates
from engram_interp.capture import record
from engram_interp.capture.ablations import Kind
from engram_interp.capture.hits import STRATA, ngram_hits, stratum
from engram_interp.checkpoints import SubjectModel
from engram_interp.data.probes import Probe, ProbeSet
from engram_interp.errors import InputError
from engram_interp.memory.counts import NgramCounts
from engram_interp.probe_scores import partners
from engram_interp.results import Result
from tests import support

CHOICES = ("Kalo", "Mi met", "saw Ren", "kept")


def subject(**changes: Any) -> SubjectModel:
    """A small model with training hits."""
    model = support.subject(support.model_config(memory=support.memory_config(**changes)))
    assert model.layout is not None
    draw, sizes = np.random.default_rng(5), zip((1, 2), model.layout.rows.tolist(), strict=True)
    return replace(model, hits={layer: draw.choice([0, 3, 20, 90], size=rows) for layer, rows in sizes})


def log_ps(model: SubjectModel, prompt: str, choices: Sequence[str]) -> list[float]:
    """Log p of each choice after a prompt or the separator alone, token by token."""
    opening = model.to_tokens(prompt)[0].tolist() if prompt else [model.separator_id]
    each = [model.tokenizer.encode(f" {choice}", add_special_tokens=False).ids for choice in choices]
    found = record(model, [[*opening, *ids] for ids in each]).logits.double().log_softmax(-1)
    start = len(opening) - 1
    return [
        sum(float(row[start + i, token]) for i, token in enumerate(ids))
        for row, ids in zip(found, each, strict=True)
    ]


def scores(model: SubjectModel, probe: Probe) -> list[float]:
    """The score of each choice of a probe."""
    bare = log_ps(model, probe.bare, probe.choices)
    return [a - b for a, b in zip(log_ps(model, probe.prompt, probe.choices), bare, strict=True)]


def answered(model: SubjectModel, count: int = 24) -> ProbeSet:
    """Probes whose right choice is what the model finds likeliest, so that it scores 1; every third reads."""
    made = []
    for index, text in enumerate(support.documents(count, seed=8)):
        bare = "In the" if index % 3 == 0 else ""
        prompt = text[:24].strip()
        asked = Probe(id="any", prompt=prompt, bare=bare, answer=CHOICES[0], others=CHOICES[1:])
        best = CHOICES[int(np.argmax(scores(model, asked)))]
        others = tuple(c for c in CHOICES if c != best)[: 2 + index % 2]
        made.append(Probe(id=f"p{index}", prompt=prompt, bare=bare, answer=best, others=others))
    return ProbeSet(name="own", kind="reading", probes=tuple(made))


def test_scores_are_those_of_single_runs() -> None:
    model = subject()
    probes = answered(model)
    data = ablation.retained(model, probes, kinds=["output_off", "rows_mean"], n_boot=50, batch_size=7).data
    cell = data.sel(probe_set="own", stratum="all")
    assert float(cell["intact_score"]) == 1
    np.testing.assert_allclose(cell["chance"], np.mean([1 / len(p.choices) for p in probes.probes]))

    intact = [scores(model, probe) for probe in probes.probes]
    with ablation.ablate(model, "rows_mean"):
        ablated = [scores(model, probe) for probe in probes.probes]
    right = np.mean([s[0] > max(s[1:]) for s in ablated])
    at = cell.sel(kind="rows_mean")
    np.testing.assert_allclose(at["score"], right)
    chance = float(cell["chance"])
    np.testing.assert_allclose(at["retained"], (right - chance) / (1 - chance))
    moved = np.mean([a[0] - b[0] for a, b in zip(ablated, intact, strict=True)])
    np.testing.assert_allclose(at["delta_log_p"], moved, atol=1e-4)
    assert float(at["retained_low"]) <= float(at["retained"]) <= float(at["retained_high"])


def test_what_changes_nothing_retains_everything_and_so_does_its_control(tmp_path: Path) -> None:
    model = subject(gate="open")
    result = ablation.retained(model, answered(model), kinds=["gate_one"], baseline=model, n_boot=30)
    cell = result.data.isel(probe_set=0, kind=0).sel(stratum="all")
    for name in ("retained", "control_retained", "baseline_retained"):
        assert float(cell[name]) == float(cell[f"{name}_low"]) == 1
    assert float(cell["delta_log_p"]) == float(cell["control_delta_log_p"]) == 0
    assert "least retained under gate_one: 100 % [100, 100], its random control 100 %" in result.summary()
    assert len(result.plot().data) >= 1
    back = Result.load(result.save(tmp_path / "retained.nc"))
    xr.testing.assert_identical(back.data, result.data)


def test_chance_is_measured_by_asking_after_another_probe_s_prompt() -> None:
    model = subject()
    probes = answered(model, 8)
    others = partners(probes, seed=3)
    assert others is not None
    for number, other in enumerate(others):
        assert other != number
        free = [i for i, p in enumerate(probes.probes) if p.answer not in probes.probes[number].choices]
        assert not free or other in free
    swaps = [partners(probes, seed=seed) for seed in (3, 4)]
    wins = []
    for swap in swaps:
        assert swap is not None
        for probe, other in zip(probes.probes, swap, strict=True):
            before = probes.probes[other]
            asked = scores(model, replace(probe, prompt=before.prompt, bare=before.bare))
            wins.append(asked[0] > max(asked[1:]))
    data = ablation.retained(model, probes, kinds=["output_off"], n_boot=9, n_swaps=2, seed=3).data
    np.testing.assert_allclose(data["swapped_score"].isel(probe_set=0).sel(stratum="all"), np.mean(wins))
    assert float(data["intact_score"].isel(probe_set=0).sel(stratum="all")) == 1
    alone = replace(probes, probes=probes.probes[:1])
    data = ablation.retained(model, alone, kinds=["output_off"], n_boot=2).data
    assert "no other's prompt" in data["swapped_score"].attrs["missing"]


def test_own_counts_sort_probes_that_share_their_rows() -> None:
    model = subject()
    probes = answered(model)
    ends = [tuple(model.to_tokens(p.prompt)[0, -3:].tolist()) for p in probes.probes]
    assert model.token_map is not None and model.layout is not None
    often = {tuple(model.token_map[list(end)]): 60 * (i % 2) for i, end in enumerate(ends)}

    def of(ids: np.ndarray) -> np.ndarray:
        return np.array([often.get(tuple(row), 3) for row in ids.tolist()], np.int64)

    full = {layer: np.full(len(h), 75) for layer, h in model.hits.items()}
    known = replace(
        model, hits=full, counts=NgramCounts(of=of, tokens=99, source="made up", text_digest="none")
    )
    result = ablation.retained(known, probes, kinds=["output_off"], n_boot=5, n_swaps=0)
    expected = np.bincount([int(stratum(of(model.token_map[[end]]))[0]) for end in ends], minlength=4)
    assert (
        result.data["n_items"].isel(probe_set=0).sel(stratum=list(STRATA)).values.tolist()
        == expected.tolist()
    )
    assert (expected > 0).sum() == 2
    assert "by the n-gram's own count in the training text they fall into 0 and ≥ 50" in result.summary()
    assert "no prompts were swapped" in result.data["swapped_score"].attrs["missing"]


def test_scores_do_not_depend_on_the_batches() -> None:
    model = subject()
    probes = answered(model, 9)
    kinds: list[Kind] = ["rows_shuffled", "rows_random"]
    one, other = (
        ablation.retained(model, probes, kinds=kinds, n_boot=3, batch_size=size).data for size in (4, 11)
    )
    for name in ("score", "delta_log_p", "control_delta_log_p"):
        np.testing.assert_allclose(one[name], other[name], atol=2e-5)


def test_strata_are_those_of_the_n_gram_that_ends_the_prompt() -> None:
    model = subject()
    probes = answered(model)
    data = ablation.retained(model, probes, kinds=["output_off"], n_boot=5).data
    expected = []
    for probe in probes.probes:
        rec = record(model, [probe.prompt], sites=["blocks.*.engram.hook_rows"])
        least = min(
            int(ngram_hits(model, layer, rec[f"blocks.{layer}.engram.hook_rows"][0, -1])) for layer in (1, 2)
        )
        expected.append(int(stratum(np.array(least))))
    counts = data["n_items"].isel(probe_set=0)
    assert int(counts.sel(stratum="all")) == 24
    assert counts.sel(stratum=list(STRATA)).values.tolist() == np.bincount(expected, minlength=4).tolist()
    few = replace(probes, probes=probes.probes[:3])
    often = replace(model, hits={layer: np.full(len(h), 75) for layer, h in model.hits.items()})
    shared = ablation.retained(often, few, kinds=["output_off"], n_boot=5).summary()
    told = "all training hits fall into the stratum ≥ 50: rows are too shared to tell strata on this model"
    assert told in shared
    assert told in gates.selectivity(often, [p.prompt for p in few.probes], n_boot=5, n_inits=0).summary()
    unknown = ablation.retained(replace(model, hits={}), few, n_boot=5)
    chance = np.mean([1 / len(probe.choices) for probe in few.probes])
    swapped = float(unknown.data["swapped_score"].isel(probe_set=0).sel(stratum="all"))
    told = f"(chance {chance:.3f}, after swapped prompts {swapped:.3f}): too few probes for an interval"
    assert f"{told}, so nothing is claimed" in unknown.summary()
    assert "clearly above chance" not in unknown.summary()
    assert unknown.data["n_items"].isel(probe_set=0).values.tolist() == [3, 0, 0, 0, 0]
    assert "rows_mean" not in unknown.data["kind"].values
    assert "gate_mean" in unknown.data["kind"].values


def test_nothing_is_retained_of_what_was_never_above_chance() -> None:
    model = subject()
    probes = answered(model)
    worst = [  # the right choice is one the model finds less likely
        replace(p, answer=p.others[0], others=(p.answer, *p.others[1:])) for p in probes.probes
    ]
    result = ablation.retained(model, replace(probes, probes=tuple(worst)), kinds=["gate_zero"], n_boot=20)
    cell = result.data.isel(probe_set=0, kind=0).sel(stratum="all")
    assert float(cell["intact_score"]) == 0
    assert np.isnan(cell["retained"])
    assert "nothing to retain" in result.data["retained"].attrs["missing"]
    assert "no share of it can be called retained" in result.summary()


def test_a_choice_that_is_likely_anywhere_wins_nothing() -> None:
    model = subject()
    lift = torch.zeros(model.d_vocab)  # the first choice's tokens are the likeliest everywhere
    lift[model.tokenizer.encode(f" {CHOICES[0]}", add_special_tokens=False).ids] = 50.0
    inner = model.forward
    assert inner is not None
    partial = replace(model, forward=lambda tokens, mask: inner(tokens, mask) + lift)
    texts = [text[:24].strip() for text in support.documents(24, seed=8)]
    probes = ProbeSet(
        name="own",
        kind="facts",
        probes=tuple(
            Probe(id=f"p{i}", prompt=text, answer=CHOICES[0], others=CHOICES[1:])
            for i, text in enumerate(texts)
        ),
    )
    assert all(np.argmax(log_ps(partial, text, CHOICES)) == 0 for text in texts)
    data = ablation.retained(partial, probes, kinds=["gate_zero"], n_boot=5).data
    right = [np.argmax(scores(partial, probe)) == 0 for probe in probes.probes]
    assert float(data["intact_score"].sel(stratum="all")[0]) == np.mean(right) < 0.8
    with pytest.raises(InputError, match="tiny has no separator, so no choice of probe 'p0'"):
        ablation.retained(replace(model, separator_id=None), probes)


def test_choices_that_are_equal_share_the_point() -> None:
    model = subject()
    inner = model.forward
    assert inner is not None
    flat = replace(model, forward=lambda tokens, mask: inner(tokens, mask) * 0)
    probes = answered(model, 21)
    data = ablation.retained(flat, probes, kinds=["gate_zero"], n_boot=5).data.sel(stratum="all")
    shared = np.mean([1 / len(probe.choices) for probe in probes.probes])
    np.testing.assert_allclose(data["intact_score"], shared)
    np.testing.assert_allclose(data["score"], shared)
    np.testing.assert_allclose(data["chance"], shared)


def test_what_cannot_be_probed_says_why() -> None:
    model = subject()
    probes = answered(model, 2)
    with pytest.raises(InputError, match="kinds wants a list of ablations other than ngram_swap"):
        ablation.retained(model, probes, kinds=["ngram_swap"])
    with pytest.raises(InputError, match="no memory to ablate"):
        ablation.retained(support.subject(support.model_config()), probes)
    with pytest.raises(InputError, match="probes wants one probe set or a list of them"):
        ablation.retained(model, ["The capital of France is"])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"Layers \[0\] have no memory; layers that have one: \[1, 2\]"):
        ablation.retained(model, probes, layers=[0])
    long = Probe(id="long", prompt="Kalo " * 40, answer="Mi", others=("Lo",))
    with pytest.raises(InputError, match=r"Probe 'long' has \d+ tokens .* of tiny holds 29"):
        ablation.retained(model, ProbeSet(name="long", kind="facts", probes=(long,)))
    assert torch.equal(model.logits(support.token_ids(1, 5)), subject().logits(support.token_ids(1, 5)))

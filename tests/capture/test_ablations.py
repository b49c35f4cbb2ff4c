"""Ablations change what they name and nothing else; controls are of the same size."""

from typing import Any

import jaxtyping
import pytest
import torch

from engram_interp import attribution
from engram_interp.capture import intervene, record
from engram_interp.capture.ablations import KINDS, Target, changes, same_size_changes, target_of
from engram_interp.capture.record import Recording
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from tests import support

IDS = support.token_ids(2, 11)
SITE = {
    "output_off": "hook_engram_out",
    "gate_zero": "engram.hook_gate",
    "rows_zero": "engram.hook_memory",
    "rows_random": "engram.hook_rows",
}


def subject(n_streams: int = 1) -> SubjectModel:
    return support.subject(support.model_config(memory=support.memory_config(), n_streams=n_streams))


def under(model: SubjectModel, kind: Any, *, seed: int = 3, **parts: Any) -> tuple[Recording, Recording]:
    """The kind's sites of both memory layers, before and under the ablation."""
    sites = [f"blocks.{layer}.{SITE[kind]}" for layer in (1, 2)]
    before = record(model, IDS, sites=sites)
    target = target_of(model, kind, **parts)
    with intervene(model, changes(model, kind, target, seed=seed)):
        return before, record(model, IDS, sites=sites)


PARTS: list[tuple[str, int, dict[str, Any], dict[str, Any]]] = [
    ("output_off", 1, {}, {}),
    ("output_off", 1, {"tokens": [2, 5]}, {"token": [2, 5]}),
    ("output_off", 4, {"streams": [3]}, {"stream": [3]}),
    ("output_off", 4, {"streams": [0, 2], "tokens": [7]}, {"stream": [0, 2], "token": [7]}),
    ("gate_zero", 1, {"tokens": [0]}, {"token": [0]}),
    ("gate_zero", 4, {"streams": [1]}, {"stream": [1]}),
    ("gate_zero", 4, {}, {}),
    ("rows_zero", 1, {"orders": [3]}, {"column": [3, 4, 5]}),
    ("rows_zero", 4, {"heads": [0, 2]}, {"column": [0, 2, 3, 5]}),
    ("rows_zero", 1, {"orders": [2], "heads": [1], "tokens": [4]}, {"column": [1], "token": [4]}),
    ("rows_random", 1, {}, {}),
    ("rows_random", 1, {"orders": [2], "heads": [2]}, {"column": [2]}),
    ("rows_random", 4, {"tokens": [1, 10], "heads": [0]}, {"column": [0, 3], "token": [1, 10]}),
]


@pytest.mark.parametrize(("kind", "n_streams", "parts", "where"), PARTS)
@pytest.mark.parametrize("layers", [None, [2]])
def test_only_what_is_named_changes(
    kind: str, n_streams: int, parts: dict[str, Any], where: dict[str, Any], layers: Any
) -> None:
    model = subject(n_streams)
    before, after = under(model, kind, layers=layers, **parts)
    for layer in (1, 2):
        site = f"blocks.{layer}.{SITE[kind]}"
        axes = before.axes(site)
        assert axes is not None
        chosen = torch.full(before[site].shape, layers is None or layer in layers)
        for axis, kept in where.items():
            inside = torch.zeros(chosen.shape[axes.index(axis)], dtype=torch.bool)
            inside[kept] = True
            shape = [-1 if name == axis else 1 for name in axes]
            chosen &= inside.view(shape)
        if layer == 1 or kind == "rows_random" or (layers is not None and layer in layers):
            # A later layer's gate and write also follow from what an earlier layer lost.
            assert after[site][~chosen].equal(before[site][~chosen])
        if kind == "rows_random":
            assert (after[site][chosen] != before[site][chosen]).all()
        else:
            assert not after[site][chosen].any()
    assert not after.logits.equal(before.logits)
    assert record(model, IDS).logits.equal(before.logits)


def test_random_rows_stay_in_their_head_and_repeat_with_the_seed() -> None:
    model = subject()
    layout = model.layout
    assert layout is not None
    _, after = under(model, "rows_random")
    for index, layer in enumerate((1, 2)):
        rows = after[f"blocks.{layer}.engram.hook_rows"]
        low = torch.from_numpy(layout.offsets[index])
        high = low + torch.from_numpy(layout.primes[index].reshape(-1))
        assert (rows >= low).all()
        assert (rows < high).all()
        again, other = under(model, "rows_random")[1], under(model, "rows_random", seed=4)[1]
        assert again[f"blocks.{layer}.engram.hook_rows"].equal(rows)
        assert not other[f"blocks.{layer}.engram.hook_rows"].equal(rows)


@pytest.mark.parametrize("n_streams", [1, 4])
def test_the_control_moves_the_write_as_far_at_the_same_places(n_streams: int) -> None:
    model = subject(n_streams)
    site = "blocks.1.hook_engram_out"
    target = target_of(model, "gate_zero", layers=[1], tokens=[4])
    before = record(model, IDS, sites=[site])
    with intervene(model, changes(model, "gate_zero", target, seed=0)):
        ablated = record(model, IDS, sites=[site])
    sizes = (ablated[site] - before[site]).norm(dim=-1, keepdim=True)
    moved: list[torch.Tensor] = []
    for seed in (0, 0, 1):
        with intervene(model, same_size_changes(model, target, {1: sizes}, seed=seed)):
            moved.append(record(model, IDS, sites=[site])[site] - before[site])
    torch.testing.assert_close(moved[0].norm(dim=-1, keepdim=True), sizes, atol=1e-4, rtol=1e-3)
    reached = moved[0].flatten(2).norm(dim=-1).amax(0).gt(1e-4).nonzero().flatten().tolist()
    assert reached == [4, 7, 10]  # the convolution spreads what token 4 read
    assert moved[0].equal(moved[1])
    assert not moved[0].equal(moved[2])
    ablation = (ablated[site] - before[site])[:, 4]
    cosine = torch.cosine_similarity(moved[0][:, 4], ablation, dim=-1)
    assert (cosine.abs() < 0.9).all()


def test_the_words_for_a_target() -> None:
    assert Target().describe() == "everywhere"
    assert Target(layers=(1,), orders=(2, 3), tokens=(7,)).describe() == "layer 1, orders 2, 3, token 7"


@pytest.mark.parametrize(
    ("kind", "parts", "message"),
    [
        (
            "gates_zero",
            {},
            "No ablation 'gates_zero'; there are output_off, gate_zero, gate_mean, gate_one, rows_zero",
        ),
        ("gate_zero", {"layers": [0]}, r"Layers \[0\] have no memory; layers that have one: \[1, 2\]"),
        ("gate_zero", {"orders": [2]}, "gate_zero acts on whole tokens, not on orders or heads"),
        ("output_off", {"heads": [0]}, "use rows_zero or rows_random"),
        ("rows_zero", {"streams": [0]}, "rows, which all streams share; use gate_zero or output_off"),
        ("rows_zero", {"orders": [4]}, r"orders want to lie in 2 … 3, got \(4,\)"),
        ("rows_zero", {"heads": [3]}, r"heads want to lie in 0 … 2, got \(3,\)"),
        ("gate_zero", {"streams": [1]}, r"Streams want to lie in 0 … 0, got \(1,\)"),
        ("rows_zero", {"orders": []}, "orders name nothing to ablate; leave them out to mean all"),
        ("gate_zero", {"layers": []}, "layers name nothing to ablate"),
        ("gate_zero", {"heads": []}, "heads name nothing to ablate"),
        ("gate_zero", {"tokens": [-1]}, r"Token positions count from 0, got \(-1,\)"),
    ],
)
def test_targets_that_do_not_exist_are_refused(kind: str, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        target_of(subject(), kind, **parts)


def test_a_number_in_place_of_a_list_is_refused() -> None:
    # As a user has it, without the tests' own check of argument types.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(InputError, match=r"layers wants a list of whole numbers, such as .*, got 1"):
            target_of(subject(), "gate_zero", layers=1)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"layers wants a list of memory layers, .*, got 1"):
            attribution.memory(subject(), IDS[:1], layers=1)  # type: ignore[arg-type]
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_a_position_past_the_prompt_is_refused() -> None:
    model = subject()
    with pytest.raises(
        InputError, match=r"Tokens \[999\] lie outside the prompt, whose tokens run from 0 to"
    ):
        under(model, "gate_zero", tokens=[999])


def test_a_baseline_has_nothing_to_ablate() -> None:
    baseline = support.subject(support.model_config(), name="base")
    for kind in KINDS:
        with pytest.raises(InputError, match="base has no memory to ablate"):
            target_of(baseline, kind)

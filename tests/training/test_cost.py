"""Counts of parameters and operations, and what the packaged arms claim of them."""

import pytest
import torch

from engram_interp import training
from engram_interp.model.training.cost import Cost, cost
from tests import support


@pytest.fixture(scope="module")
def arms() -> dict[str, Cost]:
    names = [name for name in training.packaged_recipes() if name.startswith("nano-")]
    return {name: training.find_recipe(name).cost() for name in names}


def test_the_iso_parameter_arm_has_as_many_parameters_and_operations(arms: dict[str, Cost]) -> None:
    mixture, traded = arms["nano-moe"], arms["nano-moe-engram"]
    assert traded.parameters == pytest.approx(mixture.parameters, rel=2e-3)
    assert traded.flops_per_token == pytest.approx(mixture.flops_per_token, rel=2e-3)
    assert traded.table_parameters > 0.15 * traded.parameters
    assert mixture.flops_per_token == pytest.approx(arms["nano-dense"].flops_per_token, rel=1e-2)


def test_the_arms_for_a_gpu_are_what_their_comments_say() -> None:
    recipes = {name: training.find_recipe(f"gpu-{name}") for name in ("moe", "moe-engram", "moe-added")}
    with torch.device("meta"):  # 70 M weights that nobody reads
        mixture, traded = recipes["moe"].cost(), recipes["moe-engram"].cost()
    assert traded.parameters == pytest.approx(mixture.parameters, rel=2e-3)
    assert traded.flops_per_token == pytest.approx(mixture.flops_per_token, rel=2e-3)
    assert traded.table_parameters > 0.15 * traded.parameters
    added, shuffled = recipes["moe-added"], training.find_recipe("gpu-moe-shuffled")
    assert added.engram is not None and added.model == recipes["moe"].model == shuffled.model
    assert shuffled.engram == added.engram | {"reads": "shuffled"}
    assert len({(r.d_vocab, r.fiction, r.schedule) for r in (*recipes.values(), shuffled)}) == 1


def test_the_controls_are_as_large_as_the_memory(arms: dict[str, Cost]) -> None:
    for name in ("nano-shuffled", "nano-open", "nano-raw-ids", "nano-late"):
        assert arms[name] == arms["nano-engram"]
    assert arms["nano-bigram"].table_parameters == pytest.approx(
        arms["nano-engram"].table_parameters, rel=1e-2
    )


def test_counts_are_those_of_the_matrices() -> None:
    cfg = support.model_config(memory=support.memory_config(conv_kernel=0), n_experts=5, experts_per_token=2)
    found, d, memory = cost(support.model(cfg)), cfg.d_model, cfg.engram
    assert memory is not None
    attention, expert, shared = 4 * d * d, 3 * d * cfg.d_expert, 3 * d * cfg.d_mlp
    layer = attention + 2 * expert + shared + 5 * d
    reads = 2 * 2 * memory.d_memory * d
    assert found.active_parameters == cfg.n_layers * layer + reads + cfg.d_vocab * d
    products = cfg.n_layers * 4 * d * (cfg.n_ctx + 1) // 2
    assert found.flops_per_token == 2 * found.active_parameters + products
    rows = memory.layout(n_ids=cfg.d_vocab).rows.sum()
    assert found.table_parameters == rows * memory.d_row
    gains = 2 * 2 * d
    assert (
        found.parameters
        == found.active_parameters + 3 * cfg.n_layers * expert + found.table_parameters + gains
    )

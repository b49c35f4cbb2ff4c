"""Tests of `capture.memories`: the module of a layer and its table, and what is said where there is none."""

from dataclasses import replace

import pytest
import torch

from engram_interp.capture.memories import engram_of, memory_of, table_of
from engram_interp.errors import InputError
from tests import support


def test_the_memory_of_a_layer_is_what_its_sites_lie_in() -> None:
    model = support.subject()
    module = model.module.get_submodule("blocks.2.engram")
    assert memory_of(model, 2) is module and engram_of(model, 2) is module
    assert model.layout is not None
    table = table_of(model, 2)
    assert table is not None and len(table) == int(model.layout.rows[1])
    assert torch.equal(table, model.module.get_parameter("blocks.2.engram.table.weight")[: len(table)])


def test_a_layer_without_memory_and_a_foreign_memory_are_refused() -> None:
    model = support.subject()
    with pytest.raises(InputError, match=r"Layer 0 of tiny has no memory; layers that have one: \[1, 2\]"):
        memory_of(model, 0)
    names = ("blocks.1.engram.hook_memory", "blocks.1.engram.hook_gate")
    foreign = replace(model, sites={**model.sites, **dict.fromkeys(names, "blocks.1.attn.out")})
    with pytest.raises(
        InputError, match=r"at layer 1 is a \w+, whose gate, convolution and rows are not known"
    ):
        engram_of(foreign, 1)
    assert table_of(foreign, 1) is None

"""The memory module against its equations written out one number at a time."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from engram_interp.errors import InputError
from engram_interp.memory.config import EngramConfig
from engram_interp.memory.conv import ShortConv
from engram_interp.memory.module import Engram, gate_logit
from engram_interp.memory.norm import StreamRMSNorm
from tests.support import memory_config, randomise, shapes_unchecked

D_MODEL, N_ROWS, BATCH, TOKENS = 10, 37, 2, 13


def made(n_streams: int, **changes: Any) -> Engram:
    engram = Engram(memory_config(**changes), d_model=D_MODEL, n_streams=n_streams, n_rows=N_ROWS)
    randomise(engram, seed=n_streams, std=0.7)
    return engram.double().requires_grad_(False)


def inputs(engram: Engram) -> tuple[Tensor, Tensor]:
    hidden = torch.randn(BATCH, TOKENS, engram.n_streams, D_MODEL, dtype=torch.float64)
    return hidden, torch.randint(0, N_ROWS, (BATCH, TOKENS, engram.config.columns))


def normed(x: list[float], weight: list[float], eps: float, kind: str) -> list[float]:
    divisor = math.sqrt(sum(v * v for v in x) / len(x) + eps)
    return [v / divisor * (w if kind == "rms" else 1 + w) for v, w in zip(x, weight, strict=True)]


def gate_of(score: float, kind: str) -> float:
    if kind == "open":
        return 1.0
    if kind == "signed_sqrt":
        score = math.copysign(math.sqrt(max(abs(score), 1e-6)), score) if score else 0.0
    return 1 / (1 + math.exp(-score))


def slow_write(engram: Engram, hidden: Tensor, rows: Tensor) -> Tensor:
    """What the memory writes for one text `[token stream d_model]`, by scalar arithmetic."""
    cfg = engram.config
    gated = torch.zeros_like(hidden)
    for t in range(len(hidden)):
        memory = [v for row in rows[t].tolist() for v in engram.table.weight[row].tolist()]
        value = (engram.value.weight @ torch.tensor(memory).double()).tolist()
        if cfg.bias:
            value = [a + b for a, b in zip(value, engram.value.bias.tolist(), strict=True)]
        for m in range(engram.n_streams):
            part = slice(m * D_MODEL, (m + 1) * D_MODEL)
            key = engram.key.weight[part] @ torch.tensor(memory).double()
            key = key + engram.key.bias[part] if cfg.bias else key
            k = normed(key.tolist(), engram.key_norm.weight[m].tolist(), cfg.norm_eps, cfg.norm)
            q = normed(hidden[t, m].tolist(), engram.query_norm.weight[m].tolist(), cfg.norm_eps, cfg.norm)
            score = sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(D_MODEL)
            gated[t, m] = gate_of(score, cfg.gate) * torch.tensor(value)
    if engram.conv is None:
        return gated
    out = gated.clone()
    for t in range(len(hidden)):
        for m in range(engram.n_streams):
            total = torch.zeros(D_MODEL).double()
            for tap in range(cfg.conv_kernel):
                source = t - (cfg.conv_kernel - 1 - tap) * cfg.dilation
                if source >= 0:
                    x = gated[source, m].tolist()
                    weight = engram.conv.norm.weight[m].tolist()
                    taps = engram.conv.conv.weight[m * D_MODEL : (m + 1) * D_MODEL, 0, tap]
                    total += taps * torch.tensor(normed(x, weight, cfg.conv_norm_eps, cfg.norm)).double()
            out[t, m] += total * torch.sigmoid(total)
    return out


@pytest.mark.parametrize(
    ("n_streams", "changes"),
    [
        (1, {}),
        (3, {"bias": True, "conv_kernel": 3, "conv_dilation": 2}),
        (4, {"conv_kernel": 0, "norm_eps": 1e-20, "max_order": 4, "rows": 9}),
        (2, {"norm": "zero_centred", "conv_kernel": 2}),
        (2, {"gate": "plain", "conv_kernel": 1}),
        (2, {"gate": "open", "bias": True}),
    ],
)
def test_the_write_equals_the_equations(n_streams: int, changes: dict[str, Any]) -> None:
    engram = made(n_streams, **changes)
    hidden, rows = inputs(engram)
    wanted = torch.stack([slow_write(engram, h, r) for h, r in zip(hidden, rows, strict=True)])
    torch.testing.assert_close(engram(hidden, rows), wanted, atol=1e-6, rtol=1e-6)


def test_the_gate_logit_is_odd_and_keeps_away_from_zero() -> None:
    scores = torch.tensor([-9.0, -1e-12, 0.0, 1e-12, 4.0])
    wanted = torch.tensor([-3.0, -1e-3, 0.0, 1e-3, 2.0])
    torch.testing.assert_close(gate_logit(scores, "signed_sqrt"), wanted)
    assert gate_logit(scores, "plain").equal(scores)


def test_a_fresh_convolution_writes_nothing() -> None:
    engram = Engram(memory_config(), d_model=D_MODEL, n_streams=2, n_rows=N_ROWS)
    hidden, rows = torch.randn(1, 5, 2, D_MODEL), torch.randint(0, N_ROWS, (1, 5, 6))
    seen: dict[str, Tensor] = {}
    engram.hook_gated_value.register_forward_hook(lambda _m, _i, out: seen.update(gated=out))
    engram.hook_conv_out.register_forward_hook(lambda _m, _i, out: seen.update(conv=out))
    assert engram(hidden, rows).equal(seen["gated"])
    assert not seen["conv"].any()


def test_the_depthwise_sum_equals_torchs_convolution() -> None:
    conv = ShortConv(memory_config(conv_kernel=5, conv_dilation=3), d_model=7, n_streams=2)
    randomise(conv)
    gated = torch.randn(3, 20, 2, 7)
    x = conv.norm(gated).flatten(-2).mT
    wanted = functional.silu(conv.conv(functional.pad(x, (12, 0)))).mT.unflatten(-1, (2, 7))
    torch.testing.assert_close(conv(gated), wanted)


def test_a_read_spreads_to_t_and_every_dilation_after_it_and_no_further() -> None:
    engram = made(2, conv_kernel=3, conv_dilation=4)
    hidden, rows = inputs(engram)
    other = rows.clone()
    other[:, 2] = (other[:, 2] + 1) % N_ROWS
    moved = (engram(hidden, rows) - engram(hidden, other)).abs().amax((0, 2, 3))
    assert moved.nonzero().flatten().tolist() == [2, 6, 10]
    assert engram.config.reach == 8


def test_dead_positions_write_nothing_and_feed_nothing() -> None:
    engram = made(2)
    hidden, rows = inputs(engram)
    dead = torch.zeros(BATCH, TOKENS, dtype=torch.bool)
    dead[:, 4] = True
    seen: list[Tensor] = []
    engram.hook_gate.register_forward_hook(lambda _m, _i, out: seen.append(out))
    write = engram(hidden, rows, dead)
    assert not seen[0][:, 4].any()
    shifted = rows.clone()
    shifted[:, 4] = (rows[:, 4] + 3) % N_ROWS
    assert engram(hidden, shifted, dead).equal(write)


def test_every_tensor_of_the_equations_passes_a_hook_point() -> None:
    engram = made(3)
    hidden, rows = inputs(engram)
    seen: dict[str, tuple[int, ...]] = {}
    for name, point in engram.named_children():
        if name.startswith("hook_"):
            point.register_forward_hook(lambda _m, _i, out, n=name: seen.update({n: tuple(out.shape)}))
    engram(hidden, rows)
    token, stream = (BATCH, TOKENS), (BATCH, TOKENS, 3)
    assert seen == {
        "hook_rows": (*token, 6),
        "hook_memory": (*token, 6, 5),
        "hook_mem_key": (*stream, D_MODEL),
        "hook_mem_value": (*token, D_MODEL),
        "hook_key_normed": (*stream, D_MODEL),
        "hook_query_normed": (*stream, D_MODEL),
        "hook_score": stream,
        "hook_gate_logit": stream,
        "hook_gate": stream,
        "hook_gated_value": (*stream, D_MODEL),
        "hook_conv_out": (*stream, D_MODEL),
    }


def test_gate_of_is_the_gate_without_the_hook_points() -> None:
    engram = made(2)
    hidden, rows = inputs(engram)
    seen: dict[str, Tensor] = {}
    for name in ("key_normed", "query_normed", "gate"):
        point = engram.get_submodule(f"hook_{name}")
        point.register_forward_hook(lambda _m, _i, out, n=name: seen.update({n: out}))
    engram(hidden, rows)
    assert engram.gate_of(seen["query_normed"], seen["key_normed"]).equal(seen["gate"])


def test_addresses_outside_the_table_are_refused() -> None:
    engram = made(1)
    hidden, rows = inputs(engram)
    rows[1, 3, 2] = N_ROWS
    with pytest.raises(InputError, match=rf"outside this memory's 37 rows \(got \d+ … {N_ROWS}\)"):
        engram(hidden, rows)
    with pytest.raises(InputError, match="reads 6 rows a token, got 5 columns"):
        engram(hidden, rows[..., :5])


def test_norm_kinds_start_neutral() -> None:
    x = torch.randn(2, 3, 4, 6)
    plain = StreamRMSNorm(4, 6, eps=1e-6, kind="rms")
    centred = StreamRMSNorm(4, 6, eps=1e-6, kind="zero_centred")
    torch.testing.assert_close(plain(x), centred(x))
    torch.testing.assert_close(plain(x).square().mean(-1), torch.ones(2, 3, 4), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_ids": (2, 1)}, r"distinct layer numbers from 0 in rising order, got \(2, 1\)"),
        ({"layer_ids": (-1,)}, r"rising order, got \(-1,\)"),
        ({"max_order": 1}, "max_order ≥ 2, heads ≥ 1, d_row ≥ 1 and conv_kernel ≥ 0, got 1, 3, 5 and 4"),
        ({"heads": 0}, "got 3, 0, 5 and 4"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        memory_config(**changes)


def test_explicit_rules_want_a_layout() -> None:
    config = EngramConfig(layer_ids=(0,), hash_rule="explicit")
    with pytest.raises(InputError, match=r"'explicit' with rows 8192 has no primes of its own; pass layout="):
        config.layout(n_ids=100)


def test_columns_are_order_major() -> None:
    config = memory_config(max_order=4, rows=9)
    assert config.column_orders().tolist() == [2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert config.column_heads().tolist() == [0, 1, 2] * 3
    assert (config.orders, config.columns, config.d_memory, config.dilation) == ((2, 3, 4), 9, 45, 4)


@pytest.mark.parametrize(
    ("rows", "wanted"), [(np.int64(9), 9), (np.array([9, 12]), (9, 12)), ([9, 12], (9, 12))]
)
def test_rows_may_be_numpys_integers(rows: Any, wanted: Any) -> None:
    with shapes_unchecked():
        config = EngramConfig(layer_ids=(0,), rows=rows)
    assert json.loads(json.dumps(config.rows)) == (wanted if isinstance(wanted, int) else list(wanted))
    same = EngramConfig(layer_ids=(0,), rows=wanted)
    assert config == same
    assert config.layout(n_ids=50).primes.tolist() == same.layout(n_ids=50).primes.tolist()

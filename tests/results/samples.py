"""Results of every kind with lopsided shapes, made up: every axis of another length."""

from functools import cache
from typing import Any

import numpy as np

from engram_interp.results import (
    AblationComparison,
    AblationEffect,
    ConvergenceResult,
    DepthResult,
    GateReading,
    GateStatistics,
    LensDepthResult,
    LensTable,
    Result,
    SecondOpinions,
    SlotLookup,
    StitchingResult,
)
from tests.results.memory_samples import (
    TOKENS,
    gate_selectivity,
    gate_usefulness,
    memory_attribution,
    memory_promotion,
    retained_performance,
)

NO_INTERVAL = "12 documents; an interval wants at least 20"


def depth(**changes: Any) -> DepthResult:
    """Seven Engram layers against five baseline layers, first read at layer 2; `changes` replace scalars."""
    rng = np.random.default_rng(0)
    n, m = 7, 5
    layers, rows = np.arange(n), np.arange(m)
    path_self = layers * (m - 1) / (n - 1)
    path = path_self + np.where(layers < 2, 0.05, 0.6)
    cka = np.exp(-((rows[None, :] - path[:, None]) ** 2) / 2) - 0.02
    per_layer = {"depth": path, "peak": path, "path": path}
    variables: dict[str, Any] = {
        "cka": cka,
        "cka_self": np.exp(-((rows[None, :] - rows[:, None]) ** 2) / 2),
        **per_layer,
        **{f"{name}_self": path_self for name in per_layer},
        "edge": (layers < 2) | (layers >= n - 2),
        "pre_memory": layers < 2,
        "outlier_share": rng.uniform(0.02, 0.2, (2, n)),
        "headline": 0.6, "headline_low": 0.4, "headline_high": 0.8, "headline_trimmed": 0.55,
        "control_shift": 0.05, "control_shift_low": -0.1, "control_shift_high": 0.2,
    }  # fmt: skip
    for name in ("shift", "peak_shift", "path_shift"):
        value = path - path_self
        variables |= {name: value, f"{name}_low": value - 0.2, f"{name}_high": value + 0.25}
    missing = changes.pop("missing", {})
    provenance = {"engram": "with-memory", "baseline": "without", "estimator": "minibatch", "n_samples": 1204,
                  "n_documents": 64, "seed": 0, "top_k": 5} | changes.pop("provenance", {})  # fmt: skip
    return DepthResult.from_arrays(
        coords={"layer": layers, "baseline_layer": rows, "reference_layer": rows, "reported_layer": layers,
                "model": ["engram", "baseline"]},
        variables=variables | changes,
        provenance=provenance,
        missing=missing,
    )  # fmt: skip


def convergence(n: int = 6, *, height: float = 7.0, model: str = "with-memory") -> ConvergenceResult:
    """A falling KL over `n` layers."""
    layers = np.arange(n)
    kl = height * (1 - layers / (n - 1)) ** 1.5
    variables: dict[str, Any] = {"agreement": np.linspace(0.05, 1, n)}
    for name, value in (("kl", kl), ("entropy", kl * 0.5 + 2), ("next_loss", kl * 0.4 + 4)):
        variables |= {name: value, f"{name}_low": value * 0.95, f"{name}_high": value * 1.06}
    return ConvergenceResult.from_arrays(
        coords={"layer": layers},
        variables=variables,
        provenance={"model": model, "memory_layers": "1,3", "n_samples": 5000, "n_documents": 40,
                    "direction": "KL(final || layer)", "lens": "raw logit lens"},
    )  # fmt: skip


def lens_depth(*, lens: str = "raw logit lens") -> LensDepthResult:
    """Six layers against eight, memory first read at layer 1; the headline's interval holds 0."""
    layers, rows = np.arange(6), np.arange(8)
    estimates: dict[str, Any] = {
        "shift": np.linspace(0, 0.3, 6), "reference_shift": np.full(6, np.nan),
        "headline": 0.1, "control_shift": 0.05, "reference_headline": np.nan,
    }  # fmt: skip
    variables: dict[str, Any] = {
        "kl": np.linspace(5, 0, 6), "baseline_kl": np.linspace(6, 0, 8),
        "baseline_curve": np.linspace(6, 0, 8), "depth": layers + estimates["shift"],
        "beyond": layers < 0, "pre_memory": layers < 1, "interior": (layers >= 2) & (layers < 4),
    }  # fmt: skip
    for name, value in estimates.items():
        variables |= {name: value, f"{name}_low": value - 0.2, f"{name}_high": value + 0.25}
    ends = ("", "_low", "_high")
    names = [f"{name}{end}" for name in ("reference_shift", "reference_headline") for end in ends]
    return LensDepthResult.from_arrays(
        coords={"layer": layers, "baseline_layer": rows},
        variables=variables,
        provenance={"engram": "with-memory", "baseline": "without", "lens": lens},
        missing=dict.fromkeys(names, "no reference was given"),
    )


def stitching() -> StitchingResult:
    """Six layers against five, a reference of four, two documents; deeper by .9."""
    layers, rows, documents = np.arange(6), np.arange(5), np.arange(2)
    loss = 4 + 0.1 * np.abs(layers[:, None] - rows)
    variables: dict[str, Any] = {
        "loss": loss, "loss_self": loss[:4], "null_loss": np.full(5, 8.0), "recovered": (8 - loss) / 4,
        "document_loss": np.stack([loss, loss]) * 7, "document_loss_self": np.stack([loss, loss])[:, :4] * 7,
        "document_tokens": [7, 7], "intact_loss": 4.0, "best": np.minimum(layers, 4.0),
        "depth": np.minimum(layers, 4.0), "depth_self": np.minimum(layers, 3.0),
        "pre_memory": layers < 1, "interior": (layers >= 2) & (layers < 4),
    }  # fmt: skip
    estimates: dict[str, Any] = {"shift": np.full(6, 0.9), "headline": 0.9, "control_shift": 0.1}
    for name, value in estimates.items():
        variables |= {name: value, f"{name}_low": value - 0.2, f"{name}_high": value + 0.2}
    return StitchingResult.from_arrays(
        coords={"layer": layers, "baseline_layer": rows, "reference_layer": rows[:4], "document": documents},
        variables=variables,
        provenance={"engram": "with-memory", "baseline": "without", "reference": "another seed"},
    )


def second_opinions() -> SecondOpinions:
    """Two measures, six layers against five, a reference of four."""
    layers, rows = np.arange(6), np.arange(5)
    similarity = np.exp(-np.abs(layers[:, None] - rows) / 3.0)
    shift = np.stack([np.linspace(0, 0.8, 6), np.linspace(0, 0.4, 6)])
    variables: dict[str, Any] = {
        "similarity": np.stack([similarity] * 2), "similarity_self": np.stack([similarity[:4]] * 2),
        "null": np.zeros((2, 6, 5)), "chance": [0.0, 0.01], "path": shift + layers,
        "path_self": np.stack([rows[:4] * 1.0] * 2), "pre_memory": layers < 1,
        "interior": (layers >= 2) & (layers < 4),
    }  # fmt: skip
    for name, value in (("shift", shift), ("headline", shift.mean(1)), ("control_shift", shift[:, 0])):
        variables |= {name: value, f"{name}_low": value - 0.1, f"{name}_high": value + 0.1}
    return SecondOpinions.from_arrays(
        coords={"measure": ["CKA", "mutual k-NN"], "layer": layers, "baseline_layer": rows,
                "reference_layer": rows[:4]},
        variables=variables,
        provenance={"engram": "with-memory", "baseline": "without", "reference": "another seed"},
    )  # fmt: skip


def lens_table(tokens: int = len(TOKENS)) -> LensTable:
    """Four layers, awkward tokens, three ranks."""
    rng = np.random.default_rng(1)
    n, ranks = 4, 3
    words = np.array([*TOKENS, " the", ",", "Prince"], dtype=object)
    top = rng.integers(0, len(words), (n, tokens, ranks))
    kl = np.sort(rng.uniform(0, 9, (n, tokens)), axis=0)[::-1].copy()
    kl[-1] = 0
    logprob = -np.sort(rng.exponential(1.0, (n, tokens, ranks)), axis=-1)
    move = rng.integers(-20, 20, (n, tokens)).astype(float)
    move[0] = np.nan
    final_rank = rng.integers(0, 30, (n, tokens))
    final_rank[-2:] = 0
    return LensTable.from_arrays(
        coords={"layer": np.arange(n)},
        variables={"top_id": top, "top_token": words[top], "top_logprob": logprob, "kl": kl,
                   "entropy": kl + 0.5, "final_rank": final_rank, "rank_move": move,
                   "token_id": np.arange(tokens),
                   "token_text": [words[i % len(words)] for i in range(tokens)]},
        provenance={"model": "with-memory", "lens": "raw logit lens"},
    )  # fmt: skip


def gate_reading() -> GateReading:
    """Two prompts of nine and four tokens, memory at layers 1 and 4, three streams."""
    gate = np.random.default_rng(2).uniform(0, 1, (2, 2, 3, len(TOKENS)))
    gate[1, :, :, 4:] = np.nan
    ids = np.tile(np.arange(len(TOKENS)), (2, 1))
    ids[1, 4:] = -1
    texts = [TOKENS, [*TOKENS[:4], *[""] * (len(TOKENS) - 4)]]
    return GateReading.from_arrays(
        coords={"layer": [1, 4]},
        variables={"gate": gate, "token_id": ids, "token_text": texts, "prompt_text": ["one\ntext 😀", ""]},
        provenance={"model": "with-memory"},
    )


def gate_statistics(
    *, shifted: float = 0.15, interval: float = 0.02, ranks: tuple[float, float] | None = None
) -> GateStatistics:
    """Two layers, three streams, three nulls of which one is absent; `ranks` are p of the mean and the sd."""
    shape, nulls, bins = (2, 3), 3, np.linspace(0.025, 0.975, 20)
    rng = np.random.default_rng(3)
    mean = 0.5 + shifted * rng.uniform(0.8, 1.2, shape)
    values: dict[str, Any] = {"mean": mean, "sd": np.full(shape, 0.2 + shifted / 2), "q05": mean - 0.3,
                              "q25": mean - 0.15, "q50": mean, "q75": mean + 0.12, "q95": mean + 0.25,
                              "fraction_open": mean}  # fmt: skip
    nan = np.full((1, *shape), np.nan)
    variables: dict[str, Any] = {}
    for name, value in values.items():
        flat = np.full((nulls - 1, *shape), {"mean": 0.5, "sd": 0.2, "q05": 0.2, "q95": 0.8}.get(name, 0.5))
        variables |= {name: value, f"null_{name}": np.concatenate([flat, nan])}
    for name in ("mean", "sd"):
        variables |= {f"{name}_low": variables[name] - interval, f"{name}_high": variables[name] + interval}
        null = variables[f"null_{name}"]
        variables |= {f"null_{name}_low": null - 0.02, f"null_{name}_high": null + 0.02}
    density = np.exp(-((bins - mean[..., None]) ** 2) / 0.03)
    null_density = np.broadcast_to(np.exp(-((bins - 0.5) ** 2) / 0.08), (2, *shape, 20))
    variables |= {"density": density / density.mean(-1, keepdims=True),
                  "null_density": np.concatenate([null_density, np.full((1, *shape, 20), np.nan)]),
                  "distance": np.concatenate([np.full((2, *shape), 0.31), nan])}  # fmt: skip
    if ranks is not None:
        variables |= {"init_p": np.broadcast_to(np.reshape(ranks, (2, 1, 1)), (2, *shape)),
                      "untrained_p_all": min(ranks)}  # fmt: skip
    named: dict[str, Any] = {} if ranks is None else {"statistic": ["mean", "sd"]}
    counted: dict[str, Any] = {} if ranks is None else {"n_inits": 40}
    reason = "queries cannot be permuted with one token a document"
    missing = {name: reason for name in variables if name.startswith("null_") or name == "distance"}
    if np.isnan(interval):
        missing |= {f"{name}_{end}": NO_INTERVAL for name in ("mean", "sd") for end in ("low", "high")}
    named |= {"layer": [1, 4], "null": ["untrained", "rows permuted", "queries permuted"], "bin": bins}
    counted |= {"model": "with-memory", "n_samples": 20000, "n_documents": 40}
    return GateStatistics.from_arrays(coords=named, variables=variables, provenance=counted, missing=missing)


def slot_lookup() -> SlotLookup:
    """Nine tokens, memory at layers 1 and 4, orders 2 and 3 with three heads, two streams."""
    rng = np.random.default_rng(4)
    tokens, layers, columns = len(TOKENS), 2, 6
    share = rng.normal(0.15, 0.12, (tokens, layers, columns))
    return SlotLookup.from_arrays(
        coords={"layer": [1, 4], "order_index": [2, 3]},
        variables={"address": rng.integers(0, 2**40, (tokens, layers, columns)),
                   "row_norm": rng.uniform(0.5, 2, (tokens, layers, columns)), "share": share,
                   "hits": np.full((tokens, layers, columns), np.nan), "share_bias": 1 - share.sum(-1),
                   "order": [2, 2, 2, 3, 3, 3], "head": [0, 1, 2, 0, 1, 2],
                   "ngram": [[f"two {t}", f"one two {t}"] for t in range(tokens)],
                   "token_id": np.arange(tokens), "token_text": TOKENS,
                   "gate": rng.uniform(0, 1, (tokens, 2, 2))},
        provenance={"model": "with-memory"},
    )  # fmt: skip


def ablation_effect(**changes: Any) -> AblationEffect:
    """Three ablations, one of which does nothing."""
    missing = changes.pop("missing", {})
    value = np.array([0.451, 0.38, 0.001])
    variables: dict[str, Any] = {"intact_loss": 4.863}
    for name, scale in (("delta_loss", 1.0), ("kl", 1.6)):
        for prefix, size in (("", value * scale), ("control_", np.array([0.02, 0.37, 0.002]) * scale)):
            variables |= {f"{prefix}{name}": size, f"{prefix}{name}_low": size - 0.02,
                          f"{prefix}{name}_high": size + 0.03}  # fmt: skip
    return AblationEffect.from_arrays(
        coords={"kind": ["gate_zero", "rows_zero", "output_off"]},
        variables=variables | changes,
        provenance={"model": "with-memory", "n_samples": 9000, "n_documents": 40},
        missing=missing,
    )


def ablation_comparison() -> AblationComparison:
    """Four conditions, four ranks, nine tokens, no answer given; the lens at three layers."""
    rng = np.random.default_rng(5)
    kl = rng.exponential(0.3, (4, len(TOKENS)))
    kl[0] = 0
    lens = np.tile(rng.exponential(2, (3, len(TOKENS))), (4, 1, 1))
    lens[1:, 1:, 4:] += rng.normal(0, 0.4, (3, 2, len(TOKENS) - 4))
    by_layer = {"lens_kl": lens, "lens_logprob": -lens, "written": np.arange(len(TOKENS)) % 3 == 1,
                "first_layer": 1, "first_token": 4}  # fmt: skip
    by_layer["written"][:4] = False
    tops = [
        [" Prince", ".", "<b>", "😀"],
        [" of", ".", "\n", " a"],
        [" Prince", ",", " the", ""],
        [" Prince", ".", ",", " of"],
    ]
    return AblationComparison.from_arrays(
        coords={"condition": ["intact", "ablated", "random rows", "random direction"],
                "layer": [0, 1, 2]},
        variables=by_layer | {"top_token": tops, "top_id": np.arange(16).reshape(4, 4),
                   "logprob": -np.sort(rng.exponential(2, (4, 4))), "kl": kl,
                   "answer_logprob": np.full(4, np.nan), "token_index": 8, "token_text": TOKENS},
        provenance={"model": "with-memory", "what": "gate_zero at layers 1,4"},
    )  # fmt: skip


@cache
def every_kind() -> dict[str, Result]:
    """One result of every kind, by a name a bundle might use."""
    return {
        "depth": depth(), "lens-engram": convergence(),
        "lens-baseline": convergence(8, height=8.5, model="without"),
        "lens:first <prompt>": lens_table(), "gates": gate_reading(), "gate-statistics": gate_statistics(),
        "slots:Diana, Princess of Wales": slot_lookup(), "ablation": ablation_effect(),
        "ablation:Diana": ablation_comparison(), "attribution": memory_attribution(),
        "promotion": memory_promotion(), "gate-selectivity": gate_selectivity(),
        "gate-usefulness": gate_usefulness(), "retained": retained_performance(),
    }  # fmt: skip

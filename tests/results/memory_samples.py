"""Made-up results about the memory: tests of its gates, what is retained without it, attribution."""

from typing import Any

import numpy as np

from engram_interp.results import (
    GateSelectivity,
    GateUsefulness,
    MemoryAttribution,
    MemoryPromotion,
    RetainedPerformance,
)
from engram_interp.results.editing import GROUPS, EditReport

TOKENS = ["", " of", "\n", "Wales", "<img src=x onerror=alert(1)>", "😀", "\u202eabc", "\udce2\udc82", "a\0b"]


def _around(name: str, value: Any, *, null: bool = True) -> dict[str, Any]:
    """A value with an interval and, around .5, the range of untrained gates."""
    value = np.asarray(value, float)
    found = {name: value, f"{name}_low": value - 0.03, f"{name}_high": value + 0.04}
    beside = np.full(value.shape, 0.5)
    ends = {f"null_{name}": beside, f"null_{name}_low": beside - 0.01, f"null_{name}_high": beside + 0.02}
    return found | (ends if null else {})


def gate_selectivity() -> GateSelectivity:
    """Layers 1 and 4, three streams, two others, four strata of which one is empty; no entity is marked."""
    cells = np.linspace(0.55, 0.7, 6).reshape(2, 3)
    gate = np.stack([cells - 0.1, np.full((2, 3), np.nan), cells, cells + 0.1])
    names = ("entity_difference", "entity_auc")
    entity = {k: np.full((2, 3), np.nan) for name in names for k in _around(name, cells)}
    variables = {
        **_around("conflict_auc", np.stack([cells, cells - 0.04])),
        **_around("conflict_wins", np.stack([cells, cells - 0.02]), null=False),
        "n_pairs": [[900, 905], [310, 312]],
        **_around("stratum_gate", gate, null=False),
        "stratum_tokens": [[40, 41], [0, 0], [260, 270], [600, 594]],
        **entity,
        "n_entity_ends": 0,
    }
    return GateSelectivity.from_arrays(
        coords={"layer": [1, 4], "other": ["swapped", "collider"], "stratum": ["0", "1–4", "5–49", "≥ 50"]},
        variables=variables,
        provenance={"model": "with-memory", "n_samples": 900, "n_documents": 40, "n_inits": 10},
        missing=dict.fromkeys(entity, "no entities are marked in the texts"),
    )


def gate_usefulness() -> GateUsefulness:
    """Layers 1 and 4, three streams, seven sampled tokens."""
    rng = np.random.default_rng(8)
    variables = {
        "gate": rng.uniform(0, 1, (7, 2, 3)), "delta_loss": rng.normal(0.1, 0.3, (7, 2)),
        "document": [0, 0, 0, 1, 1, 2, 2], "position": [1, 4, 6, 2, 3, 1, 5],
        **_around("mean_delta", [0.11, 0.02], null=False), **_around("useful", [0.61, 0.52], null=False),
        **_around("auc", np.linspace(0.48, 0.62, 6).reshape(2, 3)),
    }  # fmt: skip
    return GateUsefulness.from_arrays(
        coords={"layer": [1, 4]},
        variables=variables,
        provenance={"model": "with-memory", "n_samples": 7, "n_documents": 3, "n_inits": 3},
    )


def retained_performance() -> RetainedPerformance:
    """Two probe sets, of which the second is at chance; two kinds; one stratum is empty."""
    cells, kinds = (2, 5), (2, 5, 2)
    score = np.broadcast_to(np.array([[0.7], [0.25]]), cells)
    retained = np.broadcast_to(np.array([[0.2, 0.8], [np.nan, np.nan]])[:, None], kinds)
    variables: dict[str, Any] = {
        "n_items": [[40, 4, 0, 16, 20], [24, 2, 0, 12, 10]], "chance": np.full(cells, 0.25),
        **_around("intact_score", score, null=False),
        **_around("baseline_score", score - 0.1, null=False),
        **_around("baseline_retained", retained[..., 1] - 0.1, null=False),
    }  # fmt: skip
    for arm, shift in (("", 0.0), ("control_", 0.1)):
        left = np.broadcast_to(np.array([0.34, 0.6]), kinds) + shift
        for name, value in (("score", left), ("retained", retained + shift), ("delta_log_p", left - 1)):
            variables |= _around(f"{arm}{name}", value, null=False)
    variables = {
        name: np.where(np.arange(5).reshape(-1, *[1] * (np.ndim(value) - 2)) == 2, np.nan, value)
        if name != "n_items"
        else value
        for name, value in variables.items()
    }
    return RetainedPerformance.from_arrays(
        coords={"probe_set": ["facts", "reading"], "stratum": ["all", "0", "1–4", "5–49", "≥ 50"],
                "kind": ["gate_zero", "rows_zero"]},
        variables=variables,
        provenance={"model": "with-memory", "baseline": "without", "n_samples": 64, "n_documents": 64},
    )  # fmt: skip


def memory_attribution(**changes: Any) -> MemoryAttribution:
    """One prediction: layers 1 and 4, orders 2 and 3 with three heads, reads at three of nine tokens."""
    rng = np.random.default_rng(6)
    by_source = rng.normal(0.1, 0.3, (2, 3, 2, 3))
    bias = rng.normal(0, 0.05, (2, 3))
    by_layer = by_source.sum((1, 2, 3)) + bias.sum(1)
    parts = {"by_source": by_source, "contribution": by_source.sum(1), "by_layer": by_layer}
    parts["memory"] = by_layer.sum()
    variables: dict[str, Any] = {}
    for name, value in parts.items():
        variables |= {name: value, f"control_{name}": 0.1 * value, f"control_{name}_low": 0.1 * value - 0.2,
                      f"control_{name}_high": 0.1 * value + 0.3}  # fmt: skip
    rest = np.array([0.2, -0.4, 1.5, 0.3])
    return MemoryAttribution.from_arrays(
        coords={"layer": [1, 4], "order": [2, 3], "source": [2, 5, 8],
                "component": ["embed", "0_attn_out", "0_mlp_out", "<b>"]},
        variables=variables | {"bias": bias, "rest": rest, "logit": parts["memory"] + rest.sum(), "gap": 0.0,
                               "gate": rng.uniform(0, 1, (2, 3, 4)), "token_index": 8,
                               "token_text": TOKENS} | changes,
        provenance={"model": "with-memory", "target": " Wales", "n_draws": 200},
    )  # fmt: skip


def memory_promotion() -> MemoryPromotion:
    """Layers 1 and 4, the whole write and two columns, five tokens each way."""
    rng = np.random.default_rng(7)
    effect = -np.sort(-rng.exponential(1, (2, 3, 2, 5)))
    effect[:, :, 1] *= -1
    extreme = np.broadcast_to(np.array([0.8, -0.7]), (2, 3, 2))
    return MemoryPromotion.from_arrays(
        coords={"layer": [1, 4], "part": ["whole write", "order 2, head 0", "order 3, head 0"],
                "direction": ["promoted", "suppressed"]},
        variables={"effect": effect, "token_id": rng.integers(0, 99, effect.shape),
                   "top_token": rng.choice(TOKENS[:8], effect.shape),
                   "control_effect": extreme, "control_effect_low": extreme - 0.1,
                   "control_effect_high": extreme + 0.2, "token_index": 8, "token_text": TOKENS},
        provenance={"model": "with-memory", "n_draws": 100},
    )  # fmt: skip


def edit_report() -> EditReport:
    """Two edits whose every number is a half, or one."""
    sizes = {"edit": 2, "group": len(GROUPS), "shared": 2}
    made = {"str": "x", "int": 1, "float": 0.5}
    variables = {
        name: np.full([sizes[dim] for dim in variable.dims], made[variable.dtype]).tolist()
        for name, variable in EditReport.schema.variables.items()
    }
    return EditReport.from_arrays(
        coords={"group": list(GROUPS), "shared": [1, 2]},
        variables=variables,
        provenance={"model": "with-memory", "n_samples": 64, "n_documents": 64},
    )

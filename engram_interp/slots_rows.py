"""Did training reach the rows of the tail? Rows by training hits, beside the same rows at initialisation."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from engram_interp.capture.hits import STRATA, stratum
from engram_interp.capture.memories import table_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.gate_nulls import initialisations, untrained
from engram_interp.metrics.bootstrap import Estimate, mean_interval, named
from engram_interp.results.slots_rows import GROUPS, SlotRows
from engram_interp.slots_occupancy import effective_rank

__all__ = ["trained_rows"]

_PARTS = 24
"""Random parts of a group of rows, over which the interval of its effective rank is taken."""


def trained_rows(model: SubjectModel, *, n_boot: int = 1000, seed: int = 0) -> SlotRows:
    """Norm, movement since initialisation and effective rank of rows, by how often training hit them.

    Rows are sorted by hits into the strata 0, 1–4, 5–49 and ≥ 50, and the tenths that were hit least and most
    stand beside them: in a crowded table no row is rare in itself.

    Args:
        model: A model whose training hits are known and which can be drawn anew from its own seed.
        n_boot: Bootstrap samples over rows (for the effective rank, over random parts of the rows); intervals
            are 95 %.
        seed: Of the bootstrap, the parts, and the other initialisation.

    Returns:
        By memory layer and group: rows and hits; norm, and norm at initialisation; how far a row has moved in
        units of its initial norm; its cosine with its own initial state and with another initialisation's,
        which must be none; and the effective rank (1 … row width) of parts of the rows now and at first.

    Raises:
        InputError: If hits, table or initial state are not known.
    """
    if not model.memory_layers or any(layer not in model.hits for layer in model.memory_layers):
        raise InputError(f"{model.name} does not tell its rows' training hits; give wrap(…, hits=…).")
    if model.rebuild is None:
        raise InputError(f"{model.name} came without rebuild=…, so its rows' initial state is not known.")
    initial, other = untrained(model), next(initialisations(model, 1, seed=seed + 1))
    found: dict[str, list[list[Any]]] = {}
    for place, layer in enumerate(model.memory_layers):
        now, first, foreign = (_table(which, layer) for which in (model, initial, other))
        hits = np.asarray(model.hits[layer][: len(now)], np.int64)
        for chosen in _groups(hits):
            measured = _group(now[chosen], first[chosen], foreign[chosen], n_boot=n_boot, seed=seed)
            measured |= {"rows": int(chosen.sum()), "hits": _median(hits[chosen])}
            for name, value in measured.items():
                found.setdefault(name, [[] for _ in model.memory_layers])[place].append(value)
    few = "no row of the group, or too few for an interval"
    return SlotRows.from_arrays(
        coords={"layer": list(model.memory_layers), "group": list(GROUPS)},
        variables={name: np.asarray(values) for name, values in found.items()},
        provenance={
            "model": model.name,
            "model_digest": model.digest or "unknown",
            "memory_layers": ", ".join(map(str, model.memory_layers)),
            "n_samples": sum(len(model.hits[layer]) for layer in model.memory_layers),
            "n_boot": n_boot,
            "seed": seed,
            "estimator": "effective rank: exp of the entropy of the singular values over their sum",
            "notes": " ".join(model.notes),
        },
        missing=dict.fromkeys(found, few),
    )


def _table(model: SubjectModel, layer: int) -> Float[np.ndarray, "row d_row"]:
    weight = table_of(model, layer)
    if weight is None:
        raise InputError(f"The table of {model.name} at layer {layer} cannot be reached.")
    return np.asarray(weight.float().numpy(), np.float64)


def _groups(hits: Int64[np.ndarray, " row"]) -> Iterator[Bool[np.ndarray, " row"]]:
    """Which rows are of each of `GROUPS`."""
    which = stratum(hits)
    for number in range(len(STRATA)):
        yield which == number
    order = np.argsort(hits, kind="stable")
    tenth = max(1, len(hits) // 10)
    for ends in (order[:tenth], order[-tenth:]):
        chosen = np.zeros(len(hits), bool)
        chosen[ends] = True
        yield chosen


def _median(hits: np.ndarray) -> float:
    return float(np.median(hits)) if len(hits) else float("nan")


def _group(
    now: np.ndarray, first: np.ndarray, foreign: np.ndarray, *, n_boot: int, seed: int
) -> dict[str, Any]:
    """Means over the rows of a group, each with its interval."""
    lengths = [np.linalg.norm(each, axis=1) for each in (now, first, foreign)]
    moved = np.linalg.norm(now - first, axis=1) / np.maximum(lengths[1], 1e-30)
    each = np.stack(
        [
            lengths[0],
            lengths[1],
            moved,
            _cosine(now, first, *lengths[:2]),
            _cosine(now, foreign, *lengths[::2]),
        ],
        axis=1,
    )
    names = ("norm", "initial_norm", "moved", "cosine", "other_cosine")
    means = mean_interval(each, np.arange(len(each)), n_boot=n_boot, seed=seed)
    return _columns(names, means) | _ranks(now, first, n_boot=n_boot, seed=seed)


def _cosine(one: np.ndarray, other: np.ndarray, length: np.ndarray, other_length: np.ndarray) -> np.ndarray:
    return np.asarray((one * other).sum(1) / np.maximum(length * other_length, 1e-30))


def _ranks(now: np.ndarray, first: np.ndarray, *, n_boot: int, seed: int) -> dict[str, Any]:
    """Effective rank of random parts of the rows, now and at first; NaN where a part is no larger than it."""
    parts = np.array_split(np.random.default_rng(seed).permutation(len(now)), _PARTS)
    whole = min(map(len, parts)) > now.shape[1]
    values = np.full((_PARTS, 2), np.nan)
    if whole:
        values = np.array([[effective_rank(now[part]), effective_rank(first[part])] for part in parts])
    made = mean_interval(values, np.arange(_PARTS), n_boot=n_boot, seed=seed)
    return _columns(("rank", "initial_rank"), made)


def _columns(names: Sequence[str], made: Estimate) -> dict[str, Any]:
    """The columns of an estimate as variables of these names."""
    every = named("", made)
    return {f"{name}{end}": part[i] for i, name in enumerate(names) for end, part in every.items()}

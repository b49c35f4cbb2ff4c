"""Does the gate choose? Own memory against another's, often-seen n-grams against rare, entity ends.

A gate that suppressed memory which does not belong would open wider on a token's own rows than on
another n-gram's, *at the same query*. An untrained gate cannot: its AUC is about .5, and the range over
fresh initialisations stands beside every number.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.hits import STRATA, strata_of
from engram_interp.capture.memories import engram_of
from engram_interp.capture.record import record
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.gate_nulls import (
    INIT_DOCUMENTS,
    counted,
    gate_sites,
    initialisations,
    recomputable,
)
from engram_interp.memory.index import Progress, quiet
from engram_interp.metrics import contrast
from engram_interp.metrics.bootstrap import Estimate, mean_interval
from engram_interp.provenance import describe, too_few
from engram_interp.results import GateSelectivity

__all__ = ["OTHERS", "selectivity"]

OTHERS = ("swapped", "collider")
"""Whose rows stand against the token's own: those of a random other position with another n-gram; those
of a position that shares a row in some column by the hash alone, its n-gram of every order being another."""
_ENDS = ("", "_low", "_high")


def selectivity(
    model: SubjectModel,
    texts: Any,
    *,
    n_boot: int = 1000,
    seed: int = 0,
    n_inits: int = 10,
    init_documents: int = INIT_DOCUMENTS,
    progress: Progress = quiet,
) -> GateSelectivity:
    """Whether gates prefer a token's own memory, often-seen n-grams and the ends of entities.

    Args:
        model: A model with a memory.
        texts: Texts, a `PromptSet`, or token ids; every token but the separator counts. Entity ends are
            those that the prompts mark.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the partners, the bootstrap and the initialisations.
        n_inits: Fresh initialisations, of which the range of every AUC and difference is given; 0 for none.
        init_documents: Prompts for these, the first ones.
        progress: Called with the share done of the initialisations and what comes next; `print` will do.

    Returns:
        Per memory layer and stream: AUC of the gate on own rows against other rows at the same query
        (`OTHERS`), and how often own wins at its own token; the mean gate by how often training saw the
        longest n-gram (`capture.hits.strata_of`); the gate at entity ends less that elsewhere, and its AUC.
        What cannot be had (hits, marks, a gate that can be recomputed) is missing, with the reason.
    """
    encoded = encode(model, texts)
    gate_sites(model)
    drawn = {"n_boot": n_boot, "seed": seed}
    tokens = _Tokens(model, encoded, seed=seed)
    variables, missing = _conflict(tokens, **drawn)
    for part, reasons in (_by_hits(tokens, **drawn), _entities(tokens, **drawn)):
        variables |= part
        missing |= reasons
    null, reasons = _null(
        model, encoded.part(slice(0, init_documents)), n_inits=n_inits, seed=seed, progress=progress
    )
    variables |= null
    bounds = [v for v in variables if v.endswith(("_low", "_high")) and not v.startswith("null_")]
    return GateSelectivity.from_arrays(
        coords={"layer": list(model.memory_layers), "other": list(OTHERS), "stratum": list(STRATA)},
        variables=variables,
        provenance=describe(model, encoded, seed=seed)
        | {
            "n_boot": n_boot,
            "n_samples": len(tokens.documents),
            "n_inits": n_inits,
            "n_init_documents": min(init_documents, len(encoded)),
            "strata": tokens.counted_by or "not known",
        },
        missing=too_few(len(np.unique(tokens.documents)), bounds) | missing | reasons,
    )


class _Tokens:
    """Every counted token of the texts: its document, gate, rows, key and query in every memory layer."""

    def __init__(self, model: SubjectModel, encoded: Encoded, *, seed: int) -> None:
        self.model, self.seed = model, seed
        self.unknown = recomputable(model)
        names = ["gate", "rows"] if self.unknown else ["gate", "rows", "key_normed", "query_normed"]
        sites = {name: gate_sites(model, name) for name in names}
        rec = record(model, encoded, sites=[s for each in sites.values() for s in each], logits=False)
        used = torch.from_numpy(counted(model, rec))
        if not bool(used.any()):
            raise InputError("Gates want texts with at least one token besides the separator.")
        self._at = {name: [rec[s][used] for s in each] for name, each in sites.items()}
        strata, self.counted_by = strata_of(model, encoded, [rec[site] for site in sites["rows"]])
        self.strata = strata[:, used.numpy()]
        self.documents = used.nonzero()[:, 0].numpy()
        self.gate = torch.stack(self._at["gate"], dim=1).double().numpy()
        ends = torch.zeros_like(used)
        for row, places in enumerate(encoded.entity_ends):
            ends[row, list(places)] = True
        self.entity_end = ends[used].numpy()

    @property
    def heads(self) -> int:
        """Columns of one order; all of them where the layout is not known."""
        layout = self.model.layout
        return int(self.rows(0).shape[-1]) if layout is None else layout.heads

    def rows(self, index: int) -> Tensor:
        """Addresses read in a memory layer `[sample, column]`."""
        return self._at["rows"][index]

    def other_gate(self, index: int, partner: np.ndarray) -> np.ndarray:
        """The gate `[sample, stream]` with the key of each token's partner; NaN where it has none (-1)."""
        module = engram_of(self.model, self.model.memory_layers[index])
        key, query = self._at["key_normed"][index], self._at["query_normed"][index]
        gate = module.gate_of(query[None], key[torch.from_numpy(partner)][None])[0].double().numpy()
        return np.where(partner[:, None] < 0, np.nan, gate)


def _partners(rows: Tensor, *, heads: int, other: str, seed: int) -> np.ndarray:
    """For every token the index of another one with another n-gram, -1 if none was found.

    A collider differs in the n-gram of every order: an equal bigram reads equal rows, which is no collision.
    """
    generator = np.random.default_rng(seed)
    table = rows.numpy()
    n, columns = table.shape
    orders = np.split(table, columns // heads, axis=1)
    gram = np.stack([np.unique(o, axis=0, return_inverse=True)[1].reshape(-1) for o in orders], axis=1)
    if other == "swapped":
        order = generator.permutation(n)
        partner = np.empty(n, np.int64)
        partner[order] = np.roll(order, 1)
        return np.where((gram[partner] == gram).all(1), -1, partner)
    partner = np.full(n, -1, np.int64)
    for column in generator.permutation(columns):
        order = generator.permutation(n)
        order = order[np.argsort(table[order, column], kind="stable")]
        for step in range(1, 8):  # neighbours in the same row; a few steps pass over the same n-gram
            mate = np.roll(order, step)
            meets = (table[order, column] == table[mate, column]) & (gram[order] != gram[mate]).all(1)
            found = meets & (partner[order] < 0)
            partner[order[found]] = mate[found]
    return partner


def _conflict(tokens: _Tokens, *, n_boot: int, seed: int) -> tuple[dict[str, Any], dict[str, str]]:
    layers, streams = tokens.gate.shape[1:]
    shape = (len(OTHERS), layers, streams)
    found = {f"conflict_{name}{end}": np.full(shape, np.nan) for name in ("auc", "wins") for end in _ENDS}
    found["n_pairs"] = np.zeros(shape[:2], np.int64)
    if tokens.unknown:
        return found, dict.fromkeys((name for name in found if name != "n_pairs"), tokens.unknown)
    for index in range(layers):
        for which, other in enumerate(OTHERS):
            partner = _partners(tokens.rows(index), heads=tokens.heads, other=other, seed=seed + which)
            theirs, own = tokens.other_gate(index, partner), tokens.gate[:, index]
            met = partner >= 0
            found["n_pairs"][which, index] = met.sum()
            if not met.any():
                continue
            both = np.concatenate([own[met], theirs[met]])
            is_own = np.repeat([True, False], met.sum())
            owner = np.tile(tokens.documents[met], 2)
            wins = (own[met] > theirs[met]) + (own[met] == theirs[met]) / 2
            estimates = {
                "auc": contrast.auc(both, is_own, owner, n_boot=n_boot, seed=seed),
                "wins": mean_interval(wins, tokens.documents[met], n_boot=n_boot, seed=seed),
            }
            for name, estimate in estimates.items():
                _store(found, f"conflict_{name}", estimate, at=(which, index))
    none = dict.fromkeys(found, "no n-gram of these texts shares a row with another")
    none.pop("n_pairs")
    return found, none if (found["n_pairs"] == 0).any() else {}


def _by_hits(tokens: _Tokens, *, n_boot: int, seed: int) -> tuple[dict[str, Any], dict[str, str]]:
    layers, streams = tokens.gate.shape[1:]
    found = {f"stratum_gate{end}": np.full((len(STRATA), layers, streams), np.nan) for end in _ENDS}
    found["stratum_tokens"] = np.zeros((len(STRATA), layers), np.int64)
    if not tokens.counted_by:
        reason = "the training hits of the rows are not known; give wrap(…, hits=…)"
        return found, {f"stratum_gate{end}": reason for end in _ENDS}
    for index, which in enumerate(tokens.strata):
        for number in range(len(STRATA)):
            inside = which == number
            found["stratum_tokens"][number, index] = inside.sum()
            if inside.any():
                estimate = mean_interval(
                    tokens.gate[inside, index], tokens.documents[inside], n_boot=n_boot, seed=seed
                )
                _store(found, "stratum_gate", estimate, at=(number, index))
    why = "no token of this stratum, or for an interval too few documents that hold one"
    return found, {f"stratum_gate{end}": why for end in _ENDS}


def _entities(tokens: _Tokens, *, n_boot: int, seed: int) -> tuple[dict[str, Any], dict[str, str]]:
    found: dict[str, Any] = {"n_entity_ends": int(tokens.entity_end.sum())}
    given = (tokens.gate, tokens.entity_end, tokens.documents)
    for name, statistic in (("difference", contrast.difference), ("auc", contrast.auc)):
        estimate = statistic(*given, n_boot=n_boot, seed=seed)
        for end, part in zip(_ENDS, (estimate.value, estimate.low, estimate.high), strict=True):
            found[f"entity_{name}{end}"] = part
    none = {} if found["n_entity_ends"] else dict.fromkeys(found, "no entities are marked in the texts")
    none.pop("n_entity_ends", None)
    return found, none


def _null(
    model: SubjectModel, few: Encoded, *, n_inits: int, seed: int, progress: Progress
) -> tuple[dict[str, Any], dict[str, str]]:
    """Smallest, mean and largest value of every number over fresh initialisations."""
    names = ("conflict_auc", "entity_difference", "entity_auc")
    shape = (len(model.memory_layers), model.n_streams)
    drawn = {
        name: [np.full((len(OTHERS), *shape) if "conflict" in name else shape, np.nan)] for name in names
    }
    if model.rebuild is not None and n_inits:
        for fresh in initialisations(model, n_inits, seed=seed, progress=progress):
            tokens = _Tokens(fresh, few, seed=seed)
            once = {**_conflict(tokens, n_boot=1, seed=seed)[0], **_entities(tokens, n_boot=1, seed=seed)[0]}
            for name in names:
                drawn[name].append(once[name])
    found, missing = dict[str, Any](), dict[str, str]()
    reason = f"{model.name} came without rebuild=…" if model.rebuild is None else "see the value beside it"
    for name in names:
        stack = np.stack(drawn[name][1:] or drawn[name])
        parts = zip(_ENDS, (stack.mean(0), stack.min(0), stack.max(0)), strict=True)
        found |= {f"null_{name}{end}": part for end, part in parts}
        missing |= {
            f"null_{name}{end}": reason if n_inits else "no initialisations asked for" for end in _ENDS
        }
    return found, missing


def _store(found: dict[str, Any], name: str, estimate: Estimate, *, at: tuple[int, ...]) -> None:
    for end, part in zip(_ENDS, (estimate.value, estimate.low, estimate.high), strict=True):
        found[f"{name}{end}"][at] = part

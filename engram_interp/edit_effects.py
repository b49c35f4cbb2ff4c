"""What edits do: where the edited n-grams stand, where their rows are read by others, and elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from engram_interp.capture.draws import seeded
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.predictions import batches, logits_of, moves
from engram_interp.capture.record import record
from engram_interp.capture.rows import RowChange, rows_written
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.edit_planning import Edit, occurrences
from engram_interp.metrics.bootstrap import MIN_GROUPS, group_weights, interval, mean_interval, named
from engram_interp.results.editing import GROUPS

__all__ = ["applied", "collateral", "randomised", "reads_of", "success"]


@contextmanager
def applied(model: SubjectModel, edits: Edit | Sequence[Edit]) -> Iterator[SubjectModel]:
    """Edits written inside the block; afterwards, also after an error, outputs are bit-identical again.

    Edits that share a row add up. Blocks nest and are undone in order.

    Raises:
        InputError: When the block ends, if the rows were changed by something else in between.
    """
    with ExitStack() as stack:
        for edit in [edits] if isinstance(edits, Edit) else edits:
            stack.enter_context(rows_written(model, edit.changes))
        yield model


def randomised(edit: Edit, *, seed: int) -> Edit:
    """The control: every row moved as far, in a random direction."""
    changes = {}
    for layer, made in edit.changes.items():
        direction = torch.randn(made.change.shape, generator=seeded(seed, layer))
        size = made.change.norm(dim=-1, keepdim=True) / direction.norm(dim=-1, keepdim=True)
        changes[layer] = RowChange(rows=made.rows, change=direction * size)
    return replace(edit, changes=changes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reads:
    """Which positions of the texts read edited rows.

    Attributes:
        own: The edit's n-gram ends here.
        count: Rows of the edit that are read here.
    """

    own: Bool[Tensor, "edit document token"]
    count: Int64[Tensor, "edit document token"]

    @property
    def groups(self) -> Int64[Tensor, "document token"]:
        """Index into `GROUPS` of every position: own read, shared row, later in the text, untouched."""
        own, touched = self.own.any(0), (self.count > 0).any(0)
        later = (touched.cumsum(-1) > 0) & ~touched
        none = GROUPS.index("untouched")
        groups = torch.full(own.shape, none).masked_fill(later, GROUPS.index("later in the text"))
        groups = groups.masked_fill(touched, GROUPS.index("shared row"))
        return groups.masked_fill(own, GROUPS.index("own n-gram"))


def reads_of(model: SubjectModel, encoded: Encoded, edits: Sequence[Edit]) -> Reads:
    """Where the texts read the rows of each edit."""
    layers = sorted({layer for edit in edits for layer in edit.changes})
    sites = {layer: f"blocks.{layer}.engram.hook_rows" for layer in layers}
    rec = record(model, encoded, sites=list(sites.values()), logits=False)
    count = torch.zeros(len(edits), *rec.mask.shape, dtype=torch.int64)
    for number, edit in enumerate(edits):
        for layer, made in edit.changes.items():
            count[number] += (rec[sites[layer]][..., list(edit.columns)] == made.rows).sum(-1)
    own = torch.stack([occurrences(model, encoded, edit.ngram) for edit in edits])
    return Reads(own=own & rec.mask, count=count * rec.mask)


def success(
    model: SubjectModel,
    encoded: Encoded,
    edits: Sequence[Edit],
    controls: Sequence[Edit],
    reads: Reads,
    *,
    batch_size: int,
) -> dict[str, Any]:
    """By edit, the target where the n-gram ends: in the edit's own prompt and in the texts.

    Returns:
        Mean log-probability and median rank (0 = top) of the target under every condition: before, after
        (all edits together), alone, control.
    """
    found: dict[str, list[float]] = {}
    for number, edit in enumerate(edits):
        conditions: dict[str, Sequence[Edit]] = {"before": [], "after": edits, "control": controls}
        if len(edits) > 1:
            conditions["alone"] = [edit]
        prompts = [
            (encode(model, [list(edit.prompt)]), torch.tensor([[False] * (len(edit.prompt) - 1) + [True]]))
        ]
        holding = reads.own[number].any(-1)
        if bool(holding.any()):
            prompts.append((_holding(encoded, holding), reads.own[number][holding]))
        for name, written in conditions.items():
            with applied(model, written):
                logits = torch.cat([_at(model, p, where, batch_size=batch_size) for p, where in prompts])
            log_p = logits.double().log_softmax(-1)[:, edit.target]
            rank = (logits > logits[:, edit.target, None]).sum(-1)
            found.setdefault(f"{name}_logprob", []).append(float(log_p.mean()))
            found.setdefault(f"{name}_rank", []).append(float(rank.double().quantile(0.5)))
    if len(edits) == 1:
        found |= {f"alone_{what}": found[f"after_{what}"] for what in ("logprob", "rank")}
    arrays = {name: np.asarray(values) for name, values in found.items()}
    return arrays | _gains(arrays) | {"occurrences": reads.own.sum((1, 2)).numpy()}


def _gains(found: Mapping[str, np.ndarray], *, n_boot: int = 1000) -> dict[str, Any]:
    """What edits gain on average, beside their control, and together over alone; intervals resample edits."""
    gains = np.stack(
        [found[f"{name}_logprob"] - found["before_logprob"] for name in ("after", "control", "alone")]
    )
    edits = gains.shape[1]
    made = mean_interval(gains.T, np.arange(edits), n_boot=n_boot, seed=0)
    out: dict[str, Any] = {}
    for index, name in enumerate(("gain", "control_gain")):
        out |= {f"{name}{end}": float(part[index]) for end, part in named("", made).items()}

    def composed(weights: np.ndarray) -> np.ndarray:
        together, _, alone = weights @ gains.T if weights.ndim == 1 else (weights @ gains.T).T
        return np.where(alone > 0, together / np.where(alone > 0, alone, 1.0), np.nan)

    low = high = np.asarray(np.nan)
    if edits >= MIN_GROUPS:
        low, high = interval(composed(group_weights(edits, n_boot, 0)), n_groups=edits)
    value = composed(np.ones(edits)) if edits > 1 else np.nan
    return out | {"composed": float(value), "composed_low": float(low), "composed_high": float(high)}


def _holding(encoded: Encoded, rows: Bool[Tensor, " document"]) -> Encoded:
    kept = [index for index, held in enumerate(rows.tolist()) if held]
    return Encoded(
        tokens=encoded.tokens[kept],
        mask=encoded.mask[kept],
        entity_ends=tuple(encoded.entity_ends[i] for i in kept),
        names=tuple(encoded.names[i] for i in kept),
    )


def _at(model: SubjectModel, encoded: Encoded, where: Tensor, *, batch_size: int) -> Tensor:
    """Logits at some positions `[position, d_vocab]`."""
    parts = []
    for start, batch in batches(encoded, batch_size=batch_size):
        rows, width = slice(start, start + len(batch)), batch.tokens.shape[1]
        parts.append(logits_of(model, batch)[where[rows, :width]].float())
    return torch.cat(parts)


def collateral(
    model: SubjectModel,
    encoded: Encoded,
    edits: Sequence[Edit],
    controls: Sequence[Edit],
    reads: Reads,
    *,
    batch_size: int,
    n_boot: int,
    seed: int,
) -> dict[str, Any]:
    """By group of positions, what the edits change on the texts; and whether the untouched are bit-equal."""
    effects: list[Float[Tensor, "token effect"]] = []
    groups, documents, most = list[Tensor](), list[Tensor](), list[Tensor]()
    equal = torch.zeros_like(encoded.mask, device="cpu")
    for start, batch in batches(encoded, batch_size=batch_size):
        rows, width = slice(start, start + len(batch)), batch.tokens.shape[1]
        before = logits_of(model, batch)
        with applied(model, edits):
            after = logits_of(model, batch)
        with applied(model, controls):
            control = logits_of(model, batch)
        equal[rows, :width] = (before == after).all(-1)
        predicted = batch.mask[:, 1:].cpu()
        old, *new = (x.float().log_softmax(-1) for x in (before, after, control))
        effects.append(torch.cat([moves(old, x, batch)[predicted] for x in new], dim=-1))
        groups.append(reads.groups[rows, : width - 1][predicted])
        most.append(reads.count[:, rows, : width - 1].amax(0)[predicted])
        documents.append(predicted.nonzero()[:, 0] + start)
    values, group = torch.cat(effects).numpy(), torch.cat(groups).numpy()
    found = _by_group(values, group, torch.cat(documents).numpy(), n_boot=n_boot, seed=seed)
    found |= _by_shared(values[:, 1], group, torch.cat(most).numpy(), edits)
    return found | _locality(equal, reads, encoded)


def _by_group(
    values: np.ndarray, group: np.ndarray, documents: np.ndarray, *, n_boot: int, seed: int
) -> dict[str, Any]:
    bounds = [
        mean_interval(values, documents, mask=group == number, n_boot=n_boot, seed=seed)
        for number in range(len(GROUPS))
    ]
    found: dict[str, Any] = {"tokens": np.asarray([(group == number).sum() for number in range(len(GROUPS))])}
    for index, name in enumerate(("delta_loss", "kl", "control_delta_loss", "control_kl")):
        for end, part in (("", "value"), ("_low", "low"), ("_high", "high")):
            found[f"{name}{end}"] = np.asarray([getattr(b, part)[index] for b in bounds])
    return found


def _by_shared(
    moved: np.ndarray, group: np.ndarray, count: np.ndarray, edits: Sequence[Edit]
) -> dict[str, Any]:
    """Reads of other n-grams by the number of rows that they share with an edit, and their mean KL."""
    most = max(sum(len(made.rows) for made in edit.changes.values()) for edit in edits)
    others = group == GROUPS.index("shared row")
    chosen = [others & (count == number) for number in range(1, most + 1)]
    return {
        "shared_reads": np.asarray([rows.sum() for rows in chosen]),
        "shared_kl": np.asarray([moved[rows].mean() if rows.any() else np.nan for rows in chosen]),
    }


def _locality(equal: Tensor, reads: Reads, encoded: Encoded) -> dict[str, int]:
    """How many positions no edited row reaches, and how many of these kept every bit of their logits."""
    mask = encoded.mask.cpu()
    untouched = (reads.groups == GROUPS.index("untouched")) & mask
    whole = ~(reads.count > 0).any(0).any(-1)
    return {
        "local_tokens": int(untouched.sum()),
        "local_equal": int((equal & untouched).sum()),
        "local_documents": int(whole.sum()),
        "local_documents_equal": int((whole & (equal | ~mask).all(-1)).sum()),
    }

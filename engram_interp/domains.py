"""Where does the memory gain? Loss of a baseline less that of a model with memory, by kind of text.

A token of prose and one of program code are different amounts of text, so gains stand per token, per byte,
and as a share of the baseline's loss.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.predictions import losses
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import MIN_GROUPS, group_weights, interval
from engram_interp.provenance import describe
from engram_interp.results.domains import UNITS, DomainGain

__all__ = ["gain"]


def gain(
    model: SubjectModel,
    baseline: SubjectModel,
    domains: Mapping[str, Any],
    *,
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 8,
) -> DomainGain:
    """How much less the model's loss is than the baseline's in each domain, and how domains differ.

    Args:
        model: A model, with memory.
        baseline: A matched model without; both must cut the texts into the same tokens.
        domains: Texts or a `PromptSet` by name of the domain; every text is a document.
        n_boot: Bootstrap samples over the documents of each domain; intervals are 95 %.
        seed: Of the bootstrap.
        batch_size: Documents per forward pass.

    Returns:
        By unit (`results.domains.UNITS`) and domain the gain with its interval, the same less the first
        domain's, and the losses. With fewer than 20 documents there are no intervals.

    Raises:
        InputError: If there is no domain, or the models cut the texts differently.
    """
    if not domains:
        raise InputError("gain wants at least one domain, as {name: texts}; got none.")
    encodings = {name: encode(model, texts) for name, texts in domains.items()}
    sums = {}
    for name, texts in domains.items():
        encoded, same = encodings[name], encode(baseline, texts)
        if same.digest != encoded.digest:
            raise InputError(
                f"{baseline.name} cuts the texts of {name!r} into other tokens than {model.name}."
            )
        sums[name] = _sums(model, baseline, encoded, batch_size=batch_size)
    resampled = {name: _gains(each, n_boot, seed + i) for i, (name, each) in enumerate(sums.items())}
    totals = {name: each.sum(0) for name, each in sums.items()}
    value = np.stack([_units(total) for total in totals.values()], axis=-1)
    first = next(iter(resampled))
    variables: dict[str, Any] = {"gain": value, "difference": value - value[:, :1]}
    for key, base in (("gain", 0.0), ("difference", resampled[first])):
        ends = np.full((2, *value.shape), np.nan)
        for i, (name, each) in enumerate(resampled.items()):
            fewest = min(len(sums[name]), len(sums[first]) if key == "difference" else len(sums[name]))
            if fewest >= MIN_GROUPS and not (key == "difference" and name == first):
                ends[:, :, i] = interval(each - base, n_groups=fewest)
        variables |= {f"{key}_low": ends[0], f"{key}_high": ends[1]}
    counts = np.stack(list(totals.values()))
    variables |= {
        "baseline_loss": counts[:, 0] / counts[:, 2],
        "loss": counts[:, 1] / counts[:, 2],
        "tokens": counts[:, 2].astype(np.int64),
        "bytes": counts[:, 3].astype(np.int64),
        "documents": np.array([len(each) for each in sums.values()]),
    }
    why = f"an interval wants at least {MIN_GROUPS} documents; the first domain does not differ from itself"
    facts = describe(model, next(iter(encodings.values())), seed=seed) | {
        "n_documents": sum(map(len, sums.values())),
        "n_samples": int(counts[:, 2].sum()),
        "text_digest": ", ".join(e.digest[:16] for e in encodings.values()),
        "notes": " ".join(model.notes),
        "baseline": baseline.name,
        "baseline_digest": baseline.digest or "unknown",
        "n_boot": n_boot,
    }
    return DomainGain.from_arrays(
        coords={"domain": list(domains), "per": list(UNITS)},
        variables=variables,
        provenance=facts,
        missing={name: why for name in variables if np.isnan(variables[name]).any()},
    )


def _sums(
    model: SubjectModel, baseline: SubjectModel, encoded: Encoded, *, batch_size: int
) -> Float[np.ndarray, "document four"]:
    """Per document the baseline's summed loss, the model's, the tokens predicted and their bytes."""
    without, with_memory = (losses(which, encoded, batch_size=batch_size) for which in (baseline, model))
    tokens = (~np.isnan(without)).sum(1)
    sizes = np.array([_bytes(model, encoded, row) for row in range(len(encoded))])
    return np.stack([np.nansum(without, 1), np.nansum(with_memory, 1), tokens, sizes], axis=1).astype(float)


def _bytes(model: SubjectModel, encoded: Encoded, row: int) -> int:
    """Bytes of the text that the predicted tokens of a document cover."""
    ids = encoded.tokens[row][encoded.mask[row]].tolist()[1:]
    if not encoded.texts:
        return len(model.tokenizer.decode(ids).encode())
    text, opened = encoded.texts[row], model.separator_id is not None
    offsets = model.tokenizer.encode(text, add_special_tokens=False).offsets
    start = 0 if opened else offsets[0][1]
    return len(text[start : offsets[len(ids) - (1 if opened else 0)][1]].encode())


def _units(total: Float[np.ndarray, "*boot four"]) -> Float[np.ndarray, "*boot unit"]:
    """Gain per token, per byte, and in percent of the baseline's loss."""
    without, with_memory, tokens, size = np.moveaxis(total, -1, 0)
    gained = without - with_memory
    return np.stack([gained / tokens, gained / size, 100 * gained / without], axis=-1)


def _gains(
    sums: Float[np.ndarray, "document four"], n_boot: int, seed: int
) -> Float[np.ndarray, "boot unit"]:
    """Gains in resamples of the documents."""
    return _units(group_weights(len(sums), n_boot, seed) @ sums)

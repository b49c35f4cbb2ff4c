"""Do collisions harm? What a memory is worth where the hash gave an n-gram busy neighbours, or quiet ones.

Which other n-grams share an n-gram's rows is drawn by the hash and by nothing else, so it is a trial that
ran by itself: n-grams of one count in training differ in their company by luck alone. Company of an n-gram
is how often training read its rows for the sake of others: the row's hits less the n-gram's own count, as a
geometric mean over heads and memory layers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.hits import STRATA, own_counts, stratum
from engram_interp.capture.intervene import intervene
from engram_interp.capture.predictions import losses
from engram_interp.capture.record import record
from engram_interp.capture.windows import lagged
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.gate_nulls import gate_sites
from engram_interp.metrics import contrast
from engram_interp.metrics.bootstrap import mean_interval, named
from engram_interp.provenance import describe
from engram_interp.results.crowding import CrowdingEffect

__all__ = ["effect"]

_ENDS = ("", "_low", "_high")
_ALL = "all"


def effect(
    model: SubjectModel,
    texts: Any,
    *,
    baseline: SubjectModel | None = None,
    others: Mapping[str, SubjectModel] | None = None,
    n_boot: int = 300,
    n_permutations: int = 100,
    seed: int = 0,
    batch_size: int = 8,
) -> CrowdingEffect:
    """What the memory is worth at n-grams with much company in their rows less at those with little.

    Tokens are sorted by n-gram order and by the stratum of their n-gram's own count in training; inside a
    stratum its distinct n-grams are parted into the half with more and the half with less company. Worth of
    the memory is measured by loss: with every gate shut, or of the baseline, less the intact model's.

    Args:
        model: A model with a memory whose training hits and n-gram counts are known.
        texts: Texts, a `PromptSet`, or token ids; n-grams that were not counted are left out.
        baseline: A matched model without memory; its loss is the second measure.
        others: Models whose gain over the baseline is sorted by this model's company: for a model that reads
            other rows, such as one trained with shuffled ids, it must be none.
        n_boot: Bootstrap samples; intervals are 95 %. Those of a difference resample distinct n-grams, which
            the hash places: all occurrences of an n-gram share their company. Those of a mean, documents.
        n_permutations: Times that company is dealt anew among the n-grams of a stratum, for the null.
        seed: Of both.
        batch_size: Prompts per forward pass.

    Returns:
        By measure, order and stratum (and all strata pooled, each token less the mean of its stratum): the
        difference in nats with its interval and the 95 % range of the null; and the company of both halves.

    Raises:
        InputError: If the model has no memory, hits or counts, or the models cut the texts differently.
    """
    encoded = encode(model, texts)
    lacking = [layer for layer in model.memory_layers if layer not in model.hits]
    gate_sites(model)
    if lacking or model.counts is None or model.layout is None:
        raise InputError(
            f"{model.name} does not tell both the training hits of its rows and how often training saw each "
            "n-gram, so nobody's company can be told; give wrap(…, layout=…, hits=…, counts=…)."
        )
    worth = _worth(model, encoded, texts, baseline, others or {}, batch_size=batch_size)
    orders = range(2, model.layout.max_order + 1)
    made = [
        _by_order(model, encoded, worth, order, n_boot=n_boot, n_permutations=n_permutations, seed=seed)
        for order in orders
    ]
    variables = {name: np.stack([one[name] for one in made], axis=-2) for name in made[0]}
    few = "too few n-grams of this stratum to resample, or none"
    return CrowdingEffect.from_arrays(
        coords={"measure": list(worth), "order": list(orders), "stratum": [*STRATA, _ALL]},
        variables=variables,
        provenance=describe(model, encoded, seed=seed)
        | {
            "counts": model.counts.source,
            "baseline": "none" if baseline is None else baseline.name,
            "estimator": "mean of the half with more company less the other; resampled: distinct n-grams",
            "n_boot": n_boot,
            "n_permutations": n_permutations,
        },
        missing=dict.fromkeys([*variables], few),
    )


def _worth(
    model: SubjectModel,
    encoded: Encoded,
    texts: Any,
    baseline: SubjectModel | None,
    others: Mapping[str, SubjectModel],
    *,
    batch_size: int,
) -> dict[str, Float[np.ndarray, "batch predicted"]]:
    """By measure, what the memory is worth for every next token, nats."""

    def of(which: SubjectModel) -> np.ndarray:
        same = encode(which, texts)
        if same.digest != encoded.digest:
            raise InputError(f"{which.name} cuts these texts into other tokens than {model.name}.")
        return losses(which, same, batch_size=batch_size)

    intact = losses(model, encoded, batch_size=batch_size)
    with intervene(model, dict.fromkeys(gate_sites(model), torch.zeros_like)):
        worth = {"gates shut": losses(model, encoded, batch_size=batch_size) - intact}
    if baseline is not None:
        without = of(baseline)
        worth["gain over the baseline"] = without - intact
        worth |= {f"gain of {name}": without - of(other) for name, other in others.items()}
    return worth


def _by_order(
    model: SubjectModel,
    encoded: Encoded,
    worth: Mapping[str, np.ndarray],
    order: int,
    *,
    n_boot: int,
    n_permutations: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Every variable of one order `[measure, stratum]`; company and counts are the same for every measure."""
    own = own_counts(model, encoded, order=order)[:, :-1]
    used = (own >= 0) & ~np.isnan(next(iter(worth.values())))
    gram = _grams(model, encoded, order)[:, :-1][used]
    company = _company(model, encoded, order)[:, :-1][used]
    which, values = stratum(own[used]), np.stack([each[used] for each in worth.values()], axis=1)
    found = {
        f"{name}{end}": np.full((len(worth), len(STRATA) + 1), np.nan)
        for name in ("difference", "null_difference", "worth")
        for end in _ENDS
    } | {name: np.full((len(worth), len(STRATA) + 1), np.nan) for name in ("company_more", "company_less")}
    found["tokens"] = np.zeros((len(worth), len(STRATA) + 1), np.int64)
    owner = np.broadcast_to(np.arange(len(own))[:, None], own.shape)[used]
    crowded, centred = np.zeros(len(gram), bool), values.copy()
    generator = np.random.default_rng(seed)
    dealt = np.zeros((n_permutations, len(gram)), bool)
    for number in range(len(STRATA)):
        inside = which == number
        if len(np.unique(gram[inside])) < 2:
            continue
        crowded[inside] = _halves(company[inside], gram[inside])
        centred[inside] -= values[inside].mean(0)
        for deal in dealt:
            deal[inside] = _halves(None, gram[inside], generator=generator)
    parted = [(number, which == number) for number in range(len(STRATA))]
    for number, inside in [*parted, (len(STRATA), np.ones(len(gram), bool))]:
        if not crowded[inside].any():
            continue
        given = centred[inside], crowded[inside], gram[inside]
        for name, part in named("difference", contrast.difference(*given, n_boot=n_boot, seed=seed)).items():
            found[name][:, number] = part
        mean = mean_interval(values[inside], owner[inside], n_boot=n_boot, seed=seed)
        for name, part in named("worth", mean).items():
            found[name][:, number] = part
        null = np.stack([_difference(centred[inside], deal[inside]) for deal in dealt])
        found["null_difference"][:, number] = null.mean(0)
        ends = np.quantile(null, (0.025, 0.975), axis=0)
        found["null_difference_low"][:, number], found["null_difference_high"][:, number] = ends
        for name, half in (("more", crowded[inside]), ("less", ~crowded[inside])):
            found[f"company_{name}"][:, number] = np.exp(company[inside][half].mean())
        found["tokens"][:, number] = inside.sum()
    return found


def _difference(values: np.ndarray, positive: np.ndarray) -> np.ndarray:
    return np.asarray(values[positive].mean(0) - values[~positive].mean(0))


def _halves(
    company: np.ndarray | None, gram: np.ndarray, *, generator: np.random.Generator | None = None
) -> np.ndarray:
    """True at the occurrences of the distinct n-grams with more than median company, or of a random half."""
    names, first, place = np.unique(gram, return_index=True, return_inverse=True)
    if generator is not None:
        by_name = generator.permutation(len(names)) * 2 >= len(names)
    else:
        assert company is not None
        by_name = company[first] > np.median(company[first])
    return np.asarray(by_name[place])


def _grams(model: SubjectModel, encoded: Encoded, order: int) -> Int64[np.ndarray, "batch token"]:
    """A number for the n-gram of this order that ends at each token, equal for equal n-grams."""
    seen = lagged(model, encoded.tokens, encoded.mask, lags=order).numpy()
    flat = seen.reshape(len(seen), -1).T
    return np.unique(flat, axis=0, return_inverse=True)[1].reshape(seen.shape[1:])


def _company(model: SubjectModel, encoded: Encoded, order: int) -> Float[np.ndarray, "batch token"]:
    """Mean log of one more than the reads by others, over the heads of this order and all memory layers."""
    sites = gate_sites(model, "rows")
    rec = record(model, encoded, sites=sites, logits=False)
    assert model.layout is not None
    columns = slice((order - 2) * model.layout.heads, (order - 1) * model.layout.heads)
    own = own_counts(model, encoded, order=order)[..., None]
    each = [
        np.log1p(np.maximum(model.hits[layer][rec[site][..., columns].numpy()] - own, 0))
        for layer, site in zip(model.memory_layers, sites, strict=True)
    ]
    return np.asarray(np.concatenate(each, axis=-1).mean(-1))

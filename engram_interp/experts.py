"""What do experts spend themselves on? Load, choice by n-gram, and redundancy of a mixture of experts.

If a memory takes over what an n-gram alone decides, the experts beside it need not be chosen by the n-gram
(Engram paper section 1): the information that the first choice of expert carries about the token, and about
the last two tokens, tells.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.record import record
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import MIN_GROUPS, group_weights, interval, mean_interval, named
from engram_interp.metrics.information import mutual_information
from engram_interp.model.feedforward import MixtureOfExperts
from engram_interp.provenance import describe
from engram_interp.results.experts import ExpertUse

__all__ = ["use"]

_ENDS = ("", "_low", "_high")
_ORDERS = (1, 2)


def use(
    models: Mapping[str, SubjectModel],
    texts: Any,
    *,
    least: int = 8,
    probes: int = 512,
    n_boot: int = 1000,
    seed: int = 0,
) -> ExpertUse:
    """Load, information about the n-gram and redundancy of the experts of each model, layer by layer.

    Args:
        models: Mixtures of experts of ours by name; all must cut the texts into the same tokens.
        texts: Texts, a `PromptSet`, or token ids; every token but the separator counts.
        least: Times that an n-gram must occur in the texts for its tokens to count in the information about
            it: of rarer ones the texts cannot tell which expert takes them.
        probes: Tokens, drawn by the seed, on which all experts of a layer are run to see how alike they are.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the bootstrap, the probes and the permutation.

    Returns:
        By model and layer: how many experts' worth of load there is, as a share of all (exp of the entropy);
        mutual information of the first choice with the token, and with the last two tokens (jackknife over
        documents), as a share of ln(number of experts), which is kept too, beside choices permuted inside
        documents; and the mean cosine of the outputs of two experts on the same input.

    Raises:
        InputError: If there is no model, a model has no experts of ours, or the models cut the texts
            differently.
    """
    if not models:
        raise InputError("use wants at least one model, as {name: model}; got none.")
    encodings = {name: encode(model, texts) for name, model in models.items()}
    first = next(iter(encodings.values()))
    for name, encoded in encodings.items():
        if encoded.digest != first.digest:
            raise InputError(f"{name} cuts these texts into other tokens than {next(iter(models))}.")
    layers = {name: _layers(model) for name, model in models.items()}
    every = sorted({layer for each in layers.values() for layer in each})
    shapes = {"load": (), "redundancy": (), "information": (len(_ORDERS),)}
    found = {
        f"{name}{end}": np.full((len(models), len(every), *shape), np.nan)
        for name, shape in shapes.items()
        for end in _ENDS
    }
    found["experts"] = np.zeros((len(models), len(every)), np.int64)
    found["permuted"] = np.full((len(models), len(every), len(_ORDERS)), np.nan)
    for place, (name, model) in enumerate(models.items()):
        made = _of_model(
            model, encodings[name], layers[name], least=least, probes=probes, n_boot=n_boot, seed=seed
        )
        for layer, values in made.items():
            for key, value in values.items():
                found[key][place, every.index(layer)] = value
    facts = describe(next(iter(models.values())), first, seed=seed) | {
        "n_boot": n_boot,
        "models": "; ".join(f"{name}: {m.name} {m.digest[:16] or 'unknown'}" for name, m in models.items()),
        "least": least,
        "probes": probes,
    }
    why = f"no experts in this layer, no such n-gram, or fewer than {MIN_GROUPS} documents"
    return ExpertUse.from_arrays(
        coords={"model": list(models), "layer": every, "order": list(_ORDERS)},
        variables=found,
        provenance=facts,
        missing=dict.fromkeys(found.keys() - {"experts"}, why),
    )


def _layers(model: SubjectModel) -> dict[int, MixtureOfExperts]:
    """The mixtures of experts of a model by layer."""
    found = {}
    for layer in range(model.n_layers):
        path = model.sites.get(f"blocks.{layer}.mlp.hook_expert_ids")
        mixture = None if path is None else model.module.get_submodule(path.rpartition(".")[0])
        if isinstance(mixture, MixtureOfExperts):
            found[layer] = mixture
    if not found:
        raise InputError(
            f"{model.name} has no mixture of experts of ours; give models trained with n_experts."
        )
    return found


def _of_model(
    model: SubjectModel,
    encoded: Encoded,
    layers: Mapping[int, MixtureOfExperts],
    *,
    least: int,
    probes: int,
    n_boot: int,
    seed: int,
) -> dict[int, dict[str, Any]]:
    """Every variable by layer."""
    inputs: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    hooks = [
        mixture.register_forward_pre_hook(partial(_keep, inputs[layer])) for layer, mixture in layers.items()
    ]
    sites = [f"blocks.{layer}.mlp.hook_expert_ids" for layer in layers]
    try:
        rec = record(model, encoded, sites=sites, logits=False)
    finally:
        for hook in hooks:
            hook.remove()
    mask = rec.mask & (rec.tokens != (-1 if model.separator_id is None else model.separator_id))
    documents = mask.nonzero()[:, 0].numpy()
    classes = {order: _classes(rec.tokens.numpy(), mask.numpy(), order, least=least) for order in _ORDERS}
    generator = np.random.default_rng(seed)
    drawn = np.sort(generator.permutation(len(documents))[:probes])
    found = {}
    for (layer, mixture), site in zip(layers.items(), sites, strict=True):
        chosen = rec[site][mask].numpy()
        values = _load(chosen, documents, len(mixture.experts), n_boot=n_boot, seed=seed)
        most = np.log(len(mixture.experts))  # a choice among more experts can tell more
        told = _information(chosen[:, 0], classes, documents, generator)
        values |= {name: value / most for name, value in told.items()}
        given = torch.cat(inputs[layer])[mask][torch.from_numpy(drawn)]
        alike = mean_interval(_alike(mixture, given), documents[drawn], n_boot=n_boot, seed=seed)
        found[layer] = values | named("redundancy", alike) | {"experts": len(mixture.experts)}
    return found


def _keep(kept: list[Tensor], _module: Any, given: tuple[Tensor, ...]) -> None:
    kept.append(given[0].clone())


def _classes(
    tokens: Int64[np.ndarray, "batch token"], mask: np.ndarray, order: int, *, least: int
) -> Int64[np.ndarray, " sample"]:
    """A number from 0 for the n-gram that ends at each token; -1 where it occurs fewer than `least` times."""
    whole = np.zeros(mask.shape, bool)
    whole[:, order - 1 :] = np.all(
        [mask[:, lag : mask.shape[1] - order + 1 + lag] for lag in range(order)], axis=0
    )
    lagged = [np.roll(tokens, lag, axis=1)[mask] for lag in range(order)]
    _, gram, counts = np.unique(np.stack(lagged, 1), axis=0, return_inverse=True, return_counts=True)
    gram = gram.reshape(-1)
    kept = whole[mask] & (counts[gram] >= least)
    out = np.full(len(gram), -1, np.int64)
    out[kept] = np.unique(gram[kept], return_inverse=True)[1]
    return out


def _load(
    chosen: Int64[np.ndarray, "sample choice"],
    documents: np.ndarray,
    n_experts: int,
    *,
    n_boot: int,
    seed: int,
) -> dict[str, Any]:
    """Effective number of experts over their number, in (0, 1], with its interval over documents."""
    owner = np.unique(documents, return_inverse=True)[1]
    counts = np.zeros((int(owner.max()) + 1, n_experts))
    np.add.at(counts, (np.repeat(owner, chosen.shape[1]), chosen.ravel()), 1)

    def effective(load: np.ndarray) -> np.ndarray:
        share = load / load.sum(-1, keepdims=True)
        return np.asarray(np.exp(-(share * np.log(np.maximum(share, 1e-30))).sum(-1)) / n_experts)

    low = high = np.asarray(np.nan)
    if len(counts) >= MIN_GROUPS:
        resampled = effective(group_weights(len(counts), n_boot, seed) @ counts)
        low, high = interval(resampled, n_groups=len(counts))
    return {"load": effective(counts.sum(0)), "load_low": low, "load_high": high}


def _information(
    expert: Int64[np.ndarray, " sample"],
    classes: Mapping[int, np.ndarray],
    documents: np.ndarray,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Information of the choice about each order's n-gram, and of one permuted inside documents, nats."""
    within = np.lexsort((generator.random(len(documents)), documents))
    found: dict[str, Any] = {f"information{end}": np.full(len(classes), np.nan) for end in _ENDS}
    found["permuted"] = np.full(len(classes), np.nan)
    for place, kept in enumerate(classes.values()):
        inside = kept >= 0
        if not inside.any():
            continue
        made = mutual_information(expert[inside], kept[inside], documents[inside])
        for name, value in named("information", made).items():
            found[name][place] = value
        shuffled = mutual_information(expert[within][inside], kept[inside], documents[inside])
        found["permuted"][place] = shuffled.value
    return found


@torch.inference_mode()
def _alike(mixture: MixtureOfExperts, given: Float[Tensor, "sample d_model"]) -> Float[np.ndarray, " sample"]:
    """Mean cosine of the outputs of two different routed experts on the same input."""
    out = torch.stack([expert(given) for expert in mixture.experts], dim=1).double()
    unit = torch.nn.functional.normalize(out, dim=-1)
    n = unit.shape[1]
    # |Σu|² = n + the sum over ordered pairs.
    pairs: Tensor = (unit.sum(1).square().sum(-1) - n) / (n * (n - 1))
    return np.asarray(pairs.cpu().numpy())

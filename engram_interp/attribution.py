"""How much of a prediction came from the memory? Exact parts of a logit, each beside what chance gives.

    attribution.memory(model, "People's Republic of", target=" China").summary()
    attribution.promoted(model, "People's Republic of").plot()

An attribution here is a *direct* effect: gates, norms, stream mixes and the convolution's σ keep the values
they had in the run, which makes the logit a sum of the rows read, the biases, and the other sublayers'
outputs. What a later layer computes from a write counts as that layer's. For what would happen without the
write, ablate (`engram_interp.ablation`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram_interp.capture.attribute import (
    DirectParts,
    MemoryPath,
    attribution_sites,
    direct_parts,
    other_rows,
)
from engram_interp.capture.draws import drawn_by
from engram_interp.capture.encode import encode, single_token
from engram_interp.capture.promotion import promotions, with_control
from engram_interp.capture.record import Recording, record
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.provenance import describe
from engram_interp.results import MemoryAttribution, MemoryPromotion
from engram_interp.views.tokens import spelled

__all__ = ["memory", "promoted"]

FROZEN = (
    "gates, norms, stream mixes and collapse, and in the convolution x·σ(x)'s σ and the norm; direct effect: "
    "skips what later layers compute from it"
)
_FEWEST_DRAWS = 40


def memory(
    model: SubjectModel,
    text: Any,
    *,
    token: int = -1,
    target: str | int | None = None,
    against: str | int | None = None,
    layers: Sequence[int] | None = None,
    draws: int = 200,
    seed: int = 0,
) -> MemoryAttribution:
    """The logit of one prediction as a sum over every row that the memory read, and everything else.

    A convolution spreads a read over later positions: it is attributed at the token that read it
    (`by_source`). The logit of one token has no zero of its own (adding a number to all logits changes no
    prediction), so a difference `target` − `against` is easier to read.

    Args:
        model: A model with a memory.
        text: One prompt, or token ids.
        token: Position whose prediction is attributed; negative counts from the end; the separator is at 0.
        target: Token whose logit it is, as a text of one token or an id; None for the model's prediction.
        against: Token whose logit is subtracted.
        layers: Memory layers to split; None for all. The others count as the rest.
        draws: How often random rows are drawn for the control, at least 40.
        seed: Of the control.

    Returns:
        Contributions in logit units by layer, order, head and source token, with the bias of the value
        projection and the rest of the residual; they sum to the model's own logit but for `gap`, the
        rounding of the model's own arithmetic. Beside each stands what other rows of the same heads give.

    Raises:
        InputError: If the model's inside is not known, there is no such token or memory layer, a text is
            not one token, or the parts do not sum to the logit.
    """
    rec, position, shown = _prepared(model, text, token, layers, draws)
    logits = rec.logits[0, position].double()
    wanted = int(logits.argmax()) if target is None else _token(model, target, "target")
    other = None if against is None else _token(model, against, "against")
    if other == wanted:
        raise InputError(
            f"target and against are both token {wanted}, so there is no difference; name two tokens."
        )
    parts = direct_parts(model, rec, position)
    direction, constant = _direction(model, wanted, other)
    logit = logits[wanted] - (0 if other is None else logits[other])
    splits = {p.layer: _split(model, p, direction, draws, seed) for p in parts.paths if p.layer in shown}
    rest = _rest(parts, direction, constant, shown)
    total = sum(rest.values()) + sum(float(s["by_layer"][0]) for s in splits.values())
    _check_sum(model, parts, direction, gap=float(logit) - total)
    variables: dict[str, Any] = _stacked(list(splits.values()))
    names = {"target": wanted} | ({} if other is None else {"against": other})
    return MemoryAttribution.from_arrays(
        coords={
            "layer": list(shown),
            "order": np.arange(2, _layout(model).max_order + 1),
            "source": list(parts.paths[0].sources),
            "component": list(rest),
        },
        variables=variables
        | {
            "bias": np.stack(
                [_numpy(p.bias_contributions(direction)) for p in parts.paths if p.layer in shown]
            ),
            "gate": np.stack([_numpy(p.gate) for p in parts.paths if p.layer in shown]),
            "rest": np.asarray(list(rest.values())),
            "logit": float(logit),
            "gap": float(logit) - total,
        }
        | _tokens(model, rec, position),
        provenance=describe(model, rec.encoded, seed=seed)
        | {name: spelled(model.token_text(i)) for name, i in names.items()}
        | {f"{name}_id": i for name, i in names.items()}
        | {"frozen": FROZEN, "control": _control(model), "n_draws": draws},
    )


def promoted(
    model: SubjectModel,
    text: Any,
    *,
    token: int = -1,
    layers: Sequence[int] | None = None,
    top: int = 10,
    draws: int = 100,
    seed: int = 0,
) -> MemoryPromotion:
    """The tokens whose logits one token's memory write raises and lowers most, directly.

    Args:
        model: A model with a memory.
        text: One prompt, or token ids.
        token: Position whose prediction the write reaches; negative counts from the end.
        layers: Memory layers; None for all.
        top: Tokens kept each way.
        draws: How often random rows are drawn for the control, at least 40.
        seed: Of the control.

    Returns:
        Per memory layer the whole write at the token (what earlier reads send through the convolution and
        the bias included) and each row that the token itself read: the most promoted and suppressed tokens
        with their effects (logit minus its mean over the vocabulary), and how large the largest effect is
        with other rows of the same heads.

    Raises:
        InputError: As `memory`; or if `top` does not fit the vocabulary.
    """
    rec, position, shown = _prepared(model, text, token, layers, draws)
    if not 1 <= top <= model.d_vocab:
        raise InputError(f"top wants to lie in 1 … {model.d_vocab}, got {top}.")
    parts = direct_parts(model, rec, position)
    found = [promotions(model, p, top=top, draws=draws, seed=seed) for p in parts.paths if p.layer in shown]
    variables = {name: np.stack([layer[name] for layer in found]) for name in found[0]}
    ids = variables["token_id"]
    names = np.asarray([model.token_text(int(i)) for i in ids.ravel()], dtype=object).reshape(ids.shape)
    layout = _layout(model)
    columns = [f"order {n}, head {k}" for n in range(2, layout.max_order + 1) for k in range(layout.heads)]
    return MemoryPromotion.from_arrays(
        coords={
            "layer": list(shown),
            "part": ["whole write", *columns],
            "direction": ["promoted", "suppressed"],
        },
        variables=variables | {"top_token": names} | _tokens(model, rec, position),
        provenance=describe(model, rec.encoded, seed=seed)
        | {"frozen": FROZEN, "control": _control(model), "n_draws": draws},
    )


def _prepared(
    model: SubjectModel, text: Any, token: int, layers: Sequence[int] | None, draws: int
) -> tuple[Recording, int, tuple[int, ...]]:
    """The recorded prompt, the position and the memory layers, all checked."""
    sites = attribution_sites(model)
    if not (layers is None or isinstance(layers, Iterable)):
        raise InputError(f"layers wants a list of memory layers, such as layers=[1], got {layers!r}.")
    shown = model.memory_layers if layers is None else tuple(sorted({int(layer) for layer in layers}))
    wrong = sorted(set(shown) - set(model.memory_layers))
    if wrong or not shown:
        raise InputError(
            f"Layers {wrong} have no memory; layers that have one: {list(model.memory_layers)}."
            if wrong
            else f"layers names none; leave it out for all memory layers, {list(model.memory_layers)}."
        )
    if draws < _FEWEST_DRAWS:
        raise InputError(f"The control's 95 % range wants at least {_FEWEST_DRAWS} draws, got {draws}.")
    encoded = encode(model, text)
    if len(encoded) != 1:
        raise InputError(f"An attribution is of one prompt, got {len(encoded)}; call it for each.")
    length = encoded.tokens.shape[1]
    if not -length <= token < length:
        raise InputError(
            f"Token {token} lies outside the prompt, which has {length} tokens (0 … {length - 1})."
        )
    return record(model, encoded, sites=sites, dtype=torch.float64), token % length, shown


def _token(model: SubjectModel, given: str | int, name: str) -> int:
    if isinstance(given, bool):
        raise InputError(f"{name} wants a token's text or its id, got {given}.")
    return single_token(model, given, name)


def _control(model: SubjectModel) -> str:
    return f"in place of each row read {drawn_by(model)}; all else frozen"


def _layout(model: SubjectModel) -> Any:
    assert model.layout is not None  # attribution_sites has asked
    return model.layout


def _direction(model: SubjectModel, wanted: int, other: int | None) -> tuple[Tensor, float]:
    """The unembedding's direction, and what its bias adds."""
    assert model.unembed is not None
    weight, bias = model.unembed.weight.detach(), model.unembed.bias
    direction = weight[wanted].cpu().double()
    constant = 0.0 if bias is None else float(bias[wanted])
    if other is not None:
        direction = direction - weight[other].cpu().double()
        constant -= 0.0 if bias is None else float(bias[other])
    return direction, constant


def _split(
    model: SubjectModel, path: MemoryPath, direction: Tensor, draws: int, seed: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """By variable, what one layer gives in the run and in every draw of the control."""
    layout = _layout(model)
    by_order = (layout.max_order - 1, layout.heads)
    found = path.contributions(direction).unflatten(-1, by_order)
    drawn = path.contributions(direction, other_rows(model, path, draws=draws, seed=seed))
    drawn = drawn.unflatten(-1, by_order)
    bias = path.bias_contributions(direction).sum()
    return {
        "by_source": (found, drawn),
        "contribution": (found.sum(0), drawn.sum(1)),
        "by_layer": (found.sum() + bias, drawn.sum((1, 2, 3)) + bias),
    }


def _stacked(splits: list[dict[str, tuple[Tensor, Tensor]]]) -> dict[str, np.ndarray]:
    """The variables of all layers, each with its control, and their sum."""
    out: dict[str, np.ndarray] = {}
    for name in splits[0]:
        values, drawn = (torch.stack([s[name][i] for s in splits], dim=i) for i in (0, 1))
        out |= with_control(name, values, drawn)
        if name == "by_layer":
            out |= with_control("memory", values.sum(), drawn.sum(1))
    return out


def _rest(parts: DirectParts, direction: Tensor, constant: float, shown: tuple[int, ...]) -> dict[str, float]:
    """What everything but the memory layers shown gives, by TransformerLens's names."""
    rest = {name: float(part @ direction) for name, part in parts.rest.items()}
    for path in parts.paths:
        if path.layer not in shown:
            given = path.contributions(direction).sum() + path.bias_contributions(direction).sum()
            rest[f"{path.layer}_engram_out"] = float(given)
    return rest | ({"unembed_bias": constant} if constant else {})


def _check_sum(model: SubjectModel, parts: DirectParts, direction: Tensor, *, gap: float) -> None:
    """Refuse parts that miss the logit by more than the run's own rounding."""
    sizes = sum(float((part * direction).abs().sum()) for part in parts.rest.values())
    sizes += sum(float(path.contributions(direction).abs().sum()) for path in parts.paths)
    precision = torch.finfo(next(model.module.parameters()).dtype).eps
    if not abs(gap) <= 30 * precision * max(sizes, 1.0):
        raise InputError(
            f"The parts of {model.name} miss its own logit by {gap:.3g}, more than rounding: something else "
            "writes to the residual, or changes what passes a site (a hook or an ablation of the write, an "
            "unembedding without the norm's gain). Attribute the model without it."
        )


def _tokens(model: SubjectModel, rec: Recording, position: int) -> dict[str, Any]:
    texts = [model.token_text(int(i)) for i in rec.tokens[0]]
    return {"token_index": position, "token_text": np.asarray(texts, dtype=object)}


def _numpy(values: Tensor) -> np.ndarray:
    return np.asarray(values.numpy())

"""What does a hidden state say? Put it into another prompt and let the model speak (Patchscopes).

The state of one token after each layer replaces that of a placeholder in a second prompt; what the model
then predicts is what it can make of the state (Ghandeharioun et al. 2024; the Engram paper's table of
"Diana, Princess of Wales"). The second prompt speaks too: beside the reading stand the same prompt with the
states of random other tokens, with the mean state, and with nothing patched.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram_interp.capture.encode import Encoded, encode, single_token
from engram_interp.capture.intervene import intervene
from engram_interp.capture.predictions import logits_of
from engram_interp.capture.record import record
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data import prompts
from engram_interp.errors import InputError
from engram_interp.identity_probe import identity
from engram_interp.provenance import describe
from engram_interp.results.patchscope import CONDITIONS, PatchscopeResult
from engram_interp.views.tokens import spelled

__all__ = ["TARGET_PROMPT", "identity", "read"]

TARGET_PROMPT = "Paris: a city in France. Mozart: a composer from Austria. Everest: a mountain in Asia. x:"
"""Asks for a description of what stands at "x"."""
_OTHERS = 6
"""Packaged passages whose tokens serve as controls."""


def read(
    model: SubjectModel,
    text: str,
    *,
    token: int = -1,
    target_prompt: str = TARGET_PROMPT,
    placeholder: str | int = "x",
    layers: Sequence[int] | None = None,
    target_layer: int | None = None,
    answer: str | int | None = None,
    others: Any = None,
    draws: int = 20,
    top: int = 5,
    continuation: int = 6,
    seed: int = 0,
) -> PatchscopeResult:
    """What the model says of one token's state, layer by layer, beside random and mean states.

    A state put in after the last layer reaches no later token: there the placeholder must be the last one.
    The memory goes on reading the second prompt's own n-grams, which the state does not change.

    Args:
        model: The model.
        text: The source prompt.
        token: Its token whose state is read; negative counts from the end, the separator is at 0.
        target_prompt: The second prompt.
        placeholder: The token of the second prompt that is replaced: its text (the last token of that
            text, white space aside) or its position.
        layers: Layers whose state is read; None for all.
        target_layer: Layer of the second prompt that is patched; None for the same layer.
        answer: A token whose probability is followed; by default what the model itself predicts after the
            source token.
        others: Texts that give the control states; by default six packaged passages.
        draws: Control tokens drawn at random from these.
        top: Predictions kept.
        continuation: Tokens of the greedy continuation.
        seed: Of the draws.

    Raises:
        InputError: If a token, layer or placeholder does not exist, or the answer is not one token.
    """
    source = encode(model, text)
    at = _position(token, source.tokens.shape[1], what="Token")
    target = encode(model, target_prompt)
    place = _placeholder(model, target, placeholder)
    chosen = list(range(model.n_layers)) if layers is None else [int(layer) for layer in layers]
    wrong = [
        i for i in [*chosen, *([] if target_layer is None else [target_layer])] if not 0 <= i < model.n_layers
    ]
    if wrong or not chosen:
        raise InputError(
            f"The layers of {model.name} run from 0 to {model.n_layers - 1}, got {wrong or chosen}."
        )
    if not 1 <= top <= model.d_vocab or draws < 1 or continuation < 0:
        raise InputError(
            f"A reading wants 1 ≤ top ≤ {model.d_vocab}, draws ≥ 1 and continuation ≥ 0, got {top}, {draws} "
            f"and {continuation}."
        )
    own = logits_of(model, source)[0, at]
    follow = int(own.argmax()) if answer is None else single_token(model, answer, "answer")
    states = _states(model, source, at, chosen, others, draws=draws, seed=seed)
    plain = logits_of(model, target)[0, -1].float().log_softmax(-1)
    readings, said = [], []
    for layer in chosen:
        into = layer if target_layer is None else target_layer
        readings.append(_spoken(model, target, {into: (place, states[layer])}))
        shown = states[layer][: len(CONDITIONS)]
        said.append(_continued(model, target, {into: (place, shown)}, continuation))
    variables = _readings(model, torch.stack(readings, dim=1), plain, follow, top)
    return PatchscopeResult.from_arrays(
        coords={"condition": list(CONDITIONS), "layer": chosen},
        variables=variables
        | {
            "continuation": np.asarray(said, dtype=object).T,
            "token_index": at,
            "token_text": np.asarray([model.token_text(int(i)) for i in source.tokens[0]], object),
            "placeholder_index": place,
            "target_text": np.asarray([model.token_text(int(i)) for i in target.tokens[0]], object),
        },
        provenance=describe(model, source, seed=seed)
        | {
            "target_prompt": target_prompt,
            "target_layer": "the same" if target_layer is None else target_layer,
            "answer": spelled(model.token_text(follow)),
            "answer_id": follow,
            "draws": draws,
        },
    )


def _position(position: int, length: int, *, what: str) -> int:
    if not -length <= position < length:
        raise InputError(
            f"{what} {position} lies outside the prompt, which has {length} tokens (0 … {length - 1})."
        )
    return position % length


def _placeholder(model: SubjectModel, target: Encoded, placeholder: str | int) -> int:
    if not isinstance(placeholder, str):
        return _position(placeholder, target.tokens.shape[1], what="Placeholder")
    texts = [model.token_text(int(i)) for i in target.tokens[0]]
    found = [i for i, text in enumerate(texts) if text.strip() == placeholder.strip()]
    if not found:
        raise InputError(
            f"The second prompt has no token {placeholder!r}; its tokens are {texts}. Give the position."
        )
    return found[-1]


def _states(
    model: SubjectModel,
    source: Encoded,
    at: int,
    layers: Sequence[int],
    others: Any,
    *,
    draws: int,
    seed: int,
) -> dict[int, Tensor]:
    """By layer, the state of the token, one of a random token, the mean state, further random ones."""
    sites = {layer: f"blocks.{layer}.hook_resid_post" for layer in layers}
    own = record(model, source, sites=list(sites.values()), logits=False)
    texts = prompts.load("entities").head(_OTHERS) if others is None else others
    pool = record(model, texts, sites=list(sites.values()), logits=False)
    real = pool.mask.clone()
    real[:, 0] &= model.separator_id is None
    count = int(real.sum())
    if count < draws:
        raise InputError(f"The control texts have {count} tokens, fewer than draws={draws}; give more text.")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count)[:draws])
    found = {}
    for layer, site in sites.items():
        rows = pool[site][real]
        found[layer] = torch.stack([own[site][0, at], rows[order[0]], rows.mean(0), *rows[order[1:]]])
    return found


def _patched(place: int, states: Tensor) -> Callable[[Tensor], Tensor]:
    def change(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, place] = states.to(x.device, x.dtype)
        return x

    return change


def _spoken(model: SubjectModel, target: Encoded, patch: dict[int, tuple[int, Tensor]]) -> Tensor:
    """Log-probabilities after the second prompt, one row per state `[state, d_vocab]`."""
    [(layer, (place, states))] = patch.items()
    with intervene(model, {f"blocks.{layer}.hook_resid_post": _patched(place, states)}):
        return logits_of(model, _repeated(target.tokens, len(states)))[:, -1].float().log_softmax(-1)


def _repeated(tokens: Tensor, count: int) -> Encoded:
    rows = tokens.expand(count, -1) if len(tokens) == 1 else tokens
    return Encoded(
        tokens=rows,
        mask=torch.ones_like(rows, dtype=torch.bool),
        entity_ends=((),) * count,
        names=tuple(f"state-{i}" for i in range(count)),
    )


def _continued(
    model: SubjectModel, target: Encoded, patch: dict[int, tuple[int, Tensor]], count: int
) -> list[str]:
    """Greedy continuations of the second prompt, the patch in place throughout."""
    [(layer, (place, states))] = patch.items()
    tokens = target.tokens.expand(len(states), -1)
    room = count if model.n_ctx is None else min(count, model.n_ctx - tokens.shape[1])
    with intervene(model, {f"blocks.{layer}.hook_resid_post": _patched(place, states)}):
        for _ in range(room):
            best = logits_of(model, _repeated(tokens, len(states)))[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, best.to(tokens.device)], dim=1)
    made = tokens[:, target.tokens.shape[1] :].tolist()
    return [str(model.tokenizer.decode(ids, skip_special_tokens=False)) for ids in made]


def _readings(model: SubjectModel, log_p: Tensor, plain: Tensor, follow: int, top: int) -> dict[str, Any]:
    """The schema's numbers from log-probabilities `[state, layer, d_vocab]`; random tokens are averaged."""
    draws = torch.cat([log_p[1:2], log_p[3:]])
    best = log_p[: len(CONDITIONS)].topk(top, dim=-1)
    kl = (log_p.exp() * (log_p - plain)).sum(-1).double().numpy()
    answer = log_p[..., follow].double().numpy()
    random = draws[..., follow].double().numpy()
    texts = [[[model.token_text(int(i)) for i in row] for row in rows] for rows in best.indices]
    low, high = np.quantile(random, [0.025, 0.975], axis=0)
    others = np.concatenate([kl[1:2], kl[3:]]).mean(0)
    return {
        "top_token": np.asarray(texts, dtype=object),
        "top_id": best.indices.numpy(),
        "logprob": best.values.double().numpy(),
        "kl": np.stack([kl[0], others, kl[2]]),
        "answer_logprob": np.stack([answer[0], random.mean(0), answer[2]]),
        "answer_rank": (log_p[:3] > log_p[:3, :, follow, None]).sum(-1).numpy(),
        "random_low": low,
        "random_high": high,
        "exceeded": (1 + (random >= answer[0]).sum(0)) / (1 + len(random)),
        "plain_logprob": float(plain[follow]),
    }

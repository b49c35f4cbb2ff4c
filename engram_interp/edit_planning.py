"""Which rows to change, and by how much, so that an n-gram promotes a token.

The logit of the target, less the mean logit, is linear in the rows if everything else is held still: the
gate, the final norm's scale, the streams' mixes, and what attention and feed-forward write. Along this
direct path the least change of the rows that raises it by δ is δ · a / |a|², a its slope: the
pseudo-inverse of one row vector. The convolution enters by its slope. The rows also make the key and fill
the norm, so the closed form falls short; `edit_search` then looks for a short change that reaches δ through
all of that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from engram_interp.capture.encode import Encoded, encode, single_token
from engram_interp.capture.memories import engram_of
from engram_interp.capture.record import record
from engram_interp.capture.rows import RowChange
from engram_interp.capture.windows import lagged
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.edit_search import HELD_STILL, Rise, search
from engram_interp.errors import InputError
from engram_interp.views.tokens import spelled

__all__ = ["Edit", "occurrences", "plan"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit:
    """Changes of rows that make an n-gram promote a token; `editing.applied` writes and undoes them.

    Attributes:
        ngram: Canonical ids of the n-gram.
        ngram_text: Its tokens' text.
        prompt: Token ids, separator first, that end with it: where gate and norm were read.
        target: Token id that is promoted.
        target_text: Its text.
        columns: Columns (one order and head each) that were written.
        changes: By memory layer, the rows and what is added to them.
        wanted: Rise of the target's logit, less the mean logit, asked for, logit units.
        closed_form: Rise at the prompt after the closed form alone, logit units.
        reached: Rise at the prompt after the search, logit units.
    """

    ngram: tuple[int, ...]
    ngram_text: str
    prompt: tuple[int, ...]
    target: int
    target_text: str
    columns: tuple[int, ...]
    changes: Mapping[int, RowChange]
    wanted: float
    closed_form: float
    reached: float


def plan(
    model: SubjectModel,
    ngram: str | Sequence[int],
    target: str | int,
    *,
    strength: float = 6.0,
    layers: Sequence[int] | None = None,
    orders: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    corrections: int = 40,
) -> Edit:
    """A short change of rows with which an n-gram raises a token's logit; the model stays as it is.

    Args:
        model: A model with a memory.
        ngram: A text whose last tokens (as many as the longest order) form the n-gram, the rest being the
            context in which gate and norm are read; or its canonical ids.
        target: The token to promote: its text or its id.
        strength: Wanted rise of the target's logit, less the mean logit, logit units.
        layers: Memory layers to write, sharing the change so that it is short; None for all.
        orders: Orders whose rows are written; None for all that the n-gram fills. Rows of a lower order are
            read by more n-grams.
        heads: Heads within each order; None for all.
        corrections: Times that the search may run the model forward and back (twice as many where it has
            to begin anew), 0 for the closed form alone.

    Raises:
        InputError: If the n-gram has fewer than two tokens, the target is not one token, a layer has no
            memory, or no chosen row can raise the target's logit.
    """
    ids, prompt = _ngram(model, ngram)
    token = single_token(model, target, "target")
    columns = _columns(model, len(ids), orders, heads)
    chosen = model.memory_layers if layers is None else tuple(int(layer) for layer in layers)
    if not strength > 0 or corrections < 0:
        raise InputError(
            f"An edit wants strength > 0 and corrections ≥ 0, got {strength} and {corrections}; to demote a "
            "token, promote another."
        )
    encoded = encode(model, [list(prompt)])
    reads = _reads(model, encoded, chosen)
    rise = Rise(model=model, encoded=encoded, target=token, columns=columns, reads=reads)
    change = torch.zeros(len(chosen), len(columns), engram_of(model, chosen[0]).config.d_row)
    base, slope = rise.at(change, still=HELD_STILL)
    square = float(slope.square().sum())
    if square == 0:
        read = _text(model, prompt[-len(ids) :])
        raise InputError(
            f"No row that {read!r} reads in layers {list(chosen)} can raise the logit of "
            f"{model.token_text(token)!r}: the value projection writes nothing towards it there."
        )
    change = strength / square * slope
    closed_form = reached = rise.at(change)[0] - base
    if corrections:
        change, reached = search(rise, change, base=base, strength=strength, passes=corrections)
    return Edit(
        ngram=ids,
        ngram_text=_text(model, prompt[-len(ids) :]),
        prompt=prompt,
        target=token,
        target_text=spelled(model.token_text(token)),
        columns=tuple(columns),
        changes=rise.changes(change),
        wanted=float(strength),
        closed_form=closed_form,
        reached=reached,
    )


def occurrences(model: SubjectModel, encoded: Encoded, ngram: Sequence[int]) -> Bool[Tensor, "batch token"]:
    """Where the n-gram ends, True at its last token.

    Args:
        model: A model whose token map is known.
        encoded: Prompts.
        ngram: Canonical ids.
    """
    seen = lagged(model, encoded.tokens, encoded.mask, lags=len(ngram))
    wanted = torch.tensor(list(reversed(ngram)))
    return (seen == wanted[:, None, None]).all(0)


def _ngram(model: SubjectModel, ngram: str | Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Canonical ids, and the prompt that ends with them."""
    if not model.memory_layers or model.layout is None or model.token_map is None:
        raise InputError(
            f"{model.name} has no memory whose addresses are known, so no n-gram can be written; give the "
            "model with Engram, or wrap(…, layout=…)."
        )
    longest, mapping = model.layout.max_order, model.token_map
    if isinstance(ngram, str):
        ids = [int(i) for i in model.to_tokens(ngram)[0, 0 if model.separator_id is None else 1 :]]
    else:
        if any(int(i) not in range(int(mapping.max()) + 1) for i in ngram) or len(ngram) > longest:
            raise InputError(
                f"An n-gram wants 2 … {longest} canonical ids in 0 … {int(mapping.max())}, got {list(ngram)}."
            )
        ids = [int(np.flatnonzero(mapping == int(i))[0]) for i in ngram]
    names = [model.token_text(i) for i in ids]
    if len(ids) < 2:
        raise InputError(
            f"An n-gram wants at least two tokens, got {len(ids)} ({names}); put the word before it in front."
        )
    if model.n_ctx is not None and len(ids) >= model.n_ctx:
        raise InputError(
            f"The n-gram's text has {len(ids)} tokens and the context holds {model.n_ctx} with the "
            "separator; leave out its beginning."
        )
    if model.separator_id in ids[-longest:]:
        raise InputError(f"An n-gram does not reach across the start of a document, got the tokens {names}.")
    first = () if model.separator_id is None else (model.separator_id,)
    return tuple(int(i) for i in mapping[ids[-longest:]]), (*first, *ids)


def _columns(
    model: SubjectModel, order: int, orders: Sequence[int] | None, heads: Sequence[int] | None
) -> list[int]:
    layout = model.layout
    assert layout is not None
    filled, every = range(2, order + 1), range(layout.heads)
    for name, given, allowed in (("orders", orders, filled), ("heads", heads, every)):
        if given is not None and (not len(given) or any(i not in allowed for i in given)):
            raise InputError(
                f"{name} of this n-gram want to lie in {allowed.start} … {allowed.stop - 1}, got "
                f"{list(given)}."
            )
    return [
        (n - 2) * layout.heads + head
        for n in sorted(set(filled if orders is None else orders))
        for head in sorted(set(every if heads is None else heads))
    ]


def _reads(model: SubjectModel, encoded: Encoded, layers: Sequence[int]) -> dict[int, Tensor]:
    """Rows that a prompt reads by memory layer `[token, column]`."""
    for layer in layers:
        engram_of(model, layer)
    if len(set(layers)) != len(layers) or not layers:
        raise InputError(f"layers want distinct memory layers, at least one, got {list(layers)}.")
    sites = [f"blocks.{layer}.engram.hook_rows" for layer in layers]
    rec = record(model, encoded, sites=sites, logits=False)
    return {layer: rec[site][0] for layer, site in zip(layers, sites, strict=True)}


def _text(model: SubjectModel, ids: Sequence[int]) -> str:
    text: str = model.tokenizer.decode(list(ids), skip_special_tokens=False)
    return text

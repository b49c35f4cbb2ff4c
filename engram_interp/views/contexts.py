"""Where else an n-gram stands in the prompts of a gate reading, the most open gate first."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views.markup import Html
from engram_interp.views.tables import Cell, Token, table
from engram_interp.views.theme import number

AROUND = 6
"""Tokens shown on each side."""


def strongest(data: xr.Dataset, ids: Sequence[int], *, layer: int, top: int = 8) -> Html:
    """A concordance: every row one place where the n-gram stands, what is around it, and the gate there.

    The same tokens are looked for, as they are written; others that hash alike, such as with a capital
    letter, are not counted, and the caption says so. It sets the gates beside those of all tokens: a gate
    that is often open is open on many n-grams.

    Args:
        data: gate[prompt, layer, stream, token] ∈ [0, 1], token_id and token_text[prompt, token]; prompt_id
            where there is one (a `GateReading`'s data). Of several streams the largest gate counts.
        ids: the tokens of the n-gram.
        layer: whose gates.
        top: how many places are shown.

    Raises:
        InputError: If there is no such layer, or `ids` is empty.
    """
    layers = [int(one) for one in data["layer"].values]
    if layer not in layers or not len(ids):
        raise InputError(f"Wanted some token ids and one of the memory layers {layers}, got {ids}, {layer}.")
    gate = data["gate"].sel(layer=layer).max("stream").transpose("prompt", "token").values
    known = gate[~np.isnan(gate)]
    found = _ends(data["token_id"].transpose("prompt", "token").values, ids)
    found = [place for place in found if not np.isnan(gate[place])]
    order = np.argsort([-gate[place] for place in found], kind="stable")[:top]
    texts = data["token_text"].transpose("prompt", "token").values
    names = data["prompt_id"].values if "prompt_id" in data else data["prompt"].values
    rows = [_row(texts[prompt], len(ids), end, str(names[prompt]), float(gate[prompt, end]))
            for prompt, end in (found[place] for place in order)]  # fmt: skip
    streams = ", largest of the streams" if data.sizes["stream"] > 1 else ""
    return table(
        ["prompt", "before", "n-gram", "after", f"gate at layer {layer}{streams}"],
        rows,
        caption=_caption([float(gate[place]) for place in found], known, prompts=len(gate), shown=len(rows)),
    )


def _ends(ids: np.ndarray, wanted: Sequence[int]) -> list[tuple[int, int]]:
    """Prompt and last position of every place where the tokens stand."""
    length = len(wanted)
    if ids.shape[1] < length:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(ids, length, axis=1)
    prompts, starts = (windows == np.asarray(wanted)).all(-1).nonzero()
    return [(int(p), int(s) + length - 1) for p, s in zip(prompts, starts, strict=True)]


def _row(texts: np.ndarray, length: int, end: int, name: str, gate: float) -> list[Cell]:
    start = end - length + 1
    pieces = (
        texts[max(start - AROUND, 0) : start],
        texts[start : end + 1],
        texts[end + 1 : end + 1 + AROUND],
    )
    return [name, *(Token(text="".join(map(str, piece))) if len(piece) else "" for piece in pieces), gate]


def _caption(gates: list[float], known: np.ndarray, *, prompts: int, shown: int) -> str:
    if not gates or not known.size:
        return f"So written, the n-gram stands in none of the {prompts} prompts whose gates are known."
    low, high = (number(float(value)) for value in np.quantile(known, (0.05, 0.95)))
    every = f"of all tokens {number(float(np.median(known)))}, 5–95 % {low} to {high}"
    times = f"{len(gates):,} time{'s' * (len(gates) > 1)}"
    first = f", the {shown} most open gates first" if shown < len(gates) else ""
    return (
        f"So written, the n-gram stands {times} in the {prompts} prompts{first}: median gate "
        f"{number(float(np.median(gates)))}, {every}. Spellings that hash alike are not counted."
    )

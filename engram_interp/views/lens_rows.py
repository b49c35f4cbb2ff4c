"""The lens at one token, layer by layer: what it says, how sure, and where the final answer stands."""

import numpy as np
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views.markup import Html
from engram_interp.views.tables import Cell, Token, measured, table
from engram_interp.views.tokens import shortened, visible


def lens_at_token(data: xr.Dataset, *, token: int) -> Html:
    """One row a layer, the last on top, with the places that the final token moved since the layer before.

    Args:
        data: top_token and top_logprob [layer, token, rank], kl in nats and final_rank [layer, token],
            rank_move[layer, token] in places, token_text[token].
        token: Position, counted from 0.

    Raises:
        InputError: If there is no such token.
    """
    if token not in data["token"].values:
        raise InputError(f"There is no token {token}; tokens are 0 to {data.sizes['token'] - 1}.")
    chosen = data.sel(token=token)
    rows: list[list[Cell]] = []
    for index in reversed(range(data.sizes["layer"])):
        at = chosen.isel(layer=index)
        top = Token(text=str(at["top_token"].values[0]))
        share = float(np.exp(at["top_logprob"].values[0]))
        moved = "" if np.isnan(at["rank_move"].item()) else _moved(int(at["rank_move"]))
        rows.append([int(at["layer"]), top, share, int(at["final_rank"]), moved, measured(at["kl"])])
    final = shortened(visible(str(chosen["top_token"].values[-1, 0])))
    headers = ["layer (from 0)", "top token", "p", f"rank of “{final}” (0 = top)", "since the layer before"]
    text = shortened(visible(str(chosen["token_text"].item())))
    caption = f"{data.attrs.get('lens', 'raw logit lens')} after token {token} {text}."
    return table([*headers, "KL(final ‖ layer) (nats)"], rows, caption=caption)


def _moved(places: int) -> str:
    """A change of rank in words.

    >>> _moved(12), _moved(-3), _moved(0)
    ('up 12', 'down 3', 'same')
    """
    return "same" if places == 0 else f"{'up' if places > 0 else 'down'} {abs(places):,}"

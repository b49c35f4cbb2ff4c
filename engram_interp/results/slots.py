"""Slots: which rows of the memory each token read, and how much of the value each gave."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, counted, flags, floats, ints, texts
from engram_interp.views import token_maps
from engram_interp.views.theme import Theme, signed
from engram_interp.views.tokens import visible

_SLOT = "token layer column"
_NO_HITS = "the model's training hits are not known"
_NO_COUNT = "no n-gram of this order ends here, or it was not counted in the training text"


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SlotLookup(Result):
    """For every token and memory layer: the n-grams looked up, their rows, and what these gave."""

    kind: ClassVar[str] = "slot_lookup"
    schema: ClassVar[Schema] = Schema(
        coords={
            "token": counted("token", "position", "token position, counted from 0"),
            "layer": ints("layer", "layer", "memory layer, counted from 0"),
            "column": counted("column", "column", "column of the layout: one order and head"),
            "stream": counted("stream", "stream", "residual stream"),
            "order_index": ints("order_index", "tokens", "order n of the n-gram"),
        },
        variables={
            "address": ints(_SLOT, "row", "row of the table, offsets included"),
            "row_norm": floats(_SLOT, "1", "Euclidean norm of the row"),
            "share": floats(_SLOT, "1", "signed share of |value|² that the row gives"),
            "hits": floats(_SLOT, "occurrences", "times the row was read in training", missing=_NO_HITS),
            "share_bias": floats("token layer", "1", "signed share of |value|² that the bias gives"),
            "order": ints("column", "tokens", "order n of the column's n-gram"),
            "head": ints("column", "1", "hash head of the column"),
            "ngram": texts("token order_index", "canonical n-gram that ends at the token"),
            "count": replace(
                floats(
                    "token order_index", "occurrences", "times training saw that n-gram", missing=_NO_COUNT
                ),
                optional=True,
            ),
            "token_id": ints("token", "id", "token id"),
            "token_text": texts("token", "token text"),
            "gate": floats("token layer stream", "1", "gate; 0 shut, 0.5 neutral, 1 open"),
            "dead": replace(flags("token", "the memory does not see the token"), optional=True),
            "table_bytes": replace(ints("layer", "bytes", "size of the table's values"), optional=True),
            "scale_bytes": replace(ints("layer", "bytes", "size of the table's scales"), optional=True),
        },
    )

    def summary(self) -> str:
        """How much was read, and the largest share of the last token's value."""
        return self.said_of(int(self.data["token"].values[-1]))

    def said_of(self, token: int) -> str:
        """How much was read, and the largest share of a token's value.

        Args:
            token: Position, counted from 0.

        Raises:
            InputError: If there is no such token.
        """
        data, at = self.data, wording.position(self.data, token)
        tokens, columns = data.sizes["token"], data.sizes["column"]
        read = (
            f"{wording.counted(tokens, 'token')} read {wording.counted(columns, 'row')} each at "
            f"{wording.layers(data['layer'].values)}"
        )
        chosen = data.isel(token=at)
        share = chosen["share"].values
        place = "the last" if at == tokens - 1 else f"token {token}"
        if "table_bytes" in data:
            bare, scales = (data[name].values for name in ("table_bytes", "scale_bytes"))
            sizes, whole = (wording.listed(map(wording.file_size, s)) for s in (bare, bare + scales))
            read += f", whose tables take {sizes} ({whole} with their scales)"
        if np.isnan(share).all():
            there = "" if np.isnan(data["share"].values).all() else f"at {place} "
            return (
                f"{read}; {there}no share of the value could be given ({wording.why_missing(data['share'])})."
            )
        layer, column = divmod(int(np.nanargmax(np.abs(share))), columns)
        slot = chosen.isel(layer=layer, column=column)
        order = int(slot["order"])
        ngram = visible(str(slot["ngram"].sel(order_index=order).item()))
        where = f"order {order}, head {int(slot['head'])}, layer {int(slot['layer'])}"
        return (
            f"{read}; at {place}, “{visible(str(chosen['token_text'].item()))}”, the largest part of a value "
            f"comes from “{ngram}” ({where}): {signed(float(slot['share']), digits=2)} of |value|², an exact "
            "share of what was looked up, not of what it changes in the prediction."
        )

    def plot(self, *, theme: Theme = "light", layer: int | None = None) -> go.Figure:
        """Share of the value by column and token at one memory layer, the first if none is named."""
        chosen = int(self.data["layer"][0]) if layer is None else layer
        return token_maps.share_map(self.data, layer=chosen, theme=theme)

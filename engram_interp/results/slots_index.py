"""Who else lives in a row, who collides with an n-gram, and how full the tables are of a reference text."""

from dataclasses import dataclass
from typing import ClassVar

import plotly.graph_objects as go
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, counted, flags, floats, ints, texts
from engram_interp.views import slot_bars
from engram_interp.views.theme import Theme, number
from engram_interp.views.tokens import visible

_RANK = counted("rank", "rank", "place by count, 0 the most frequent")
_LAYER = ints("layer", "layer", "memory layer, counted from 0")
_STRATA = "stratum of occurrences in the text: 0, 1–4, 5–49, at least 50"


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SlotOccupants(Result):
    """The n-grams of a reference text that live in one row, the most frequent first."""

    kind: ClassVar[str] = "slot_occupants"
    schema: ClassVar[Schema] = Schema(
        coords={"rank": _RANK},
        variables={
            "ngram": texts("rank", "canonical n-gram"),
            "count": ints("rank", "occurrences", "how often the n-gram occurs in the text"),
            "layer": ints("", "layer", "memory layer, counted from 0"),
            "address": ints("", "row", "row of the layer's table, offsets included"),
            "order": ints("", "tokens", "order n of the column that the row belongs to"),
            "head": ints("", "1", "hash head of the column"),
            "ngrams": ints("", "n-grams", "distinct n-grams of the text in the row"),
            "occurrences": ints("", "occurrences", "reads of the row in the text"),
        },
    )

    def summary(self) -> str:
        """How many n-grams the row serves, and what the most frequent has of its reads."""
        data = self.data
        place = (
            f"Row {int(data['address'])} of layer {int(data['layer'])} (order {int(data['order'])}, head "
            f"{int(data['head'])})"
        )
        if not int(data["ngrams"]):
            return f"{place} holds no n-gram of the text of {_tokens(self)}."
        share = f"{100 * int(data['count'][0]) / int(data['occurrences']):.1f}"
        return (
            f"{place} holds {wording.counted(int(data['ngrams']), 'distinct n-gram')} of the text of "
            f"{_tokens(self)}; “{visible(str(data['ngram'][0].item()))}” makes {share} % of its "
            f"{wording.counted(int(data['occurrences']), 'read')}."
        )

    def plot(self, *, theme: Theme = "light", mark: str = "") -> go.Figure:
        """Counts of the most frequent n-grams; all but `mark`, the one that was read, are grey."""
        title = f"Who lives in row {int(self.data['address']):,}"
        return slot_bars.counts(self.data, title=title, mark=mark, theme=theme)


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SlotColliders(Result):
    """The other n-grams of a reference text that share rows with one n-gram at one layer."""

    kind: ClassVar[str] = "slot_colliders"
    schema: ClassVar[Schema] = Schema(
        coords={
            "rank": counted("rank", "rank", "place by heads shared, then by count"),
            "head": counted("head", "1", "hash head"),
            "heads_shared": ints("heads_shared", "heads", "number of heads shared"),
        },
        variables={
            "ngram": texts("rank", "canonical n-gram of a collider"),
            "count": ints("rank", "occurrences", "how often the collider occurs in the text"),
            "shared": flags("rank head", "whether the collider has the n-gram's row in this head"),
            "address": ints("head", "row", "the n-gram's own row, offsets included"),
            "colliders": ints("heads_shared", "n-grams", "distinct colliders that share so many heads"),
            "mass": ints("heads_shared", "occurrences", "occurrences of these colliders in the text"),
            "own_count": ints("", "occurrences", "how often the n-gram itself occurs in the text"),
        },
    )

    def summary(self) -> str:
        """How many colliders there are and how many of them in every head."""
        data = self.data
        heads = data.sizes["head"]
        every = int(data["colliders"].sel(heads_shared=heads))
        others = wording.counted(int(data["colliders"].sum()), "other n-gram")
        own = wording.counted(int(data["own_count"]), "time")
        return (
            f"“{visible(str(data.attrs['ngram']))}” occurs {own} in the text of "
            f"{_tokens(self)} and shares at least one of its {wording.counted(heads, 'row')} at "
            f"layer {data.attrs['layer']} with {others} "
            f"({wording.counted(int(data['mass'].sum()), 'occurrence')}), every row with "
            f"{every:,}."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """How many heads each collider shares, those that share most first."""
        return slot_bars.companions(self.data, ngram=str(self.data.attrs["ngram"]), theme=theme)


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SlotLoad(Result):
    """How a reference text fills the tables: load, collisions per head and in all heads, unused rows.

    Beside each collision count stands the share expected if every n-gram fell on any row alike.
    """

    kind: ClassVar[str] = "slot_load"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": _LAYER,
            "column": counted("column", "column", "column of the layout: one order and head"),
            "order_index": ints("order_index", "tokens", "order n of the n-gram"),
            "quantile": floats("quantile", "1", "share of rows at or below"),
            "stratum": texts("stratum", _STRATA),
        },
        variables={
            "order": ints("column", "tokens", "order n of the column's n-grams"),
            "head": ints("column", "1", "hash head of the column"),
            "rows": ints("layer column", "rows", "rows of the head"),
            "ngrams": ints("order_index", "n-grams", "distinct n-grams of the text"),
            "occurrences": ints(
                "order_index", "occurrences", "n-grams of the text, counted as often as seen"
            ),
            "unused": floats("layer column", "1", "share of rows that no n-gram of the text reads"),
            "unused_null": floats("layer column", "1", "the same, expected of n-grams spread evenly"),
            "sharing": floats("layer column", "1", "share of distinct n-grams with company in their row"),
            "sharing_mass": floats("layer column", "1", "share of occurrences that are of such n-grams"),
            "sharing_null": floats(
                "layer column", "1", "expected share of n-grams with company, spread evenly"
            ),
            "pairs": ints("layer column", "pairs", "pairs of distinct n-grams in one row"),
            "sharing_all": floats(
                "layer order_index", "1", "share of distinct n-grams that another shares every head with"
            ),
            "sharing_all_mass": floats("layer order_index", "1", "share of occurrences of such n-grams"),
            "sharing_all_null": floats(
                "layer order_index", "1", "expected share of such n-grams, spread evenly"
            ),
            "load": floats(
                "layer column quantile", "n-grams", "distinct n-grams in a row, by quantile of rows"
            ),
            "load_null": floats("layer column quantile", "n-grams", "the same of n-grams spread evenly"),
            "norm_by_reads": floats(
                "layer column stratum", "1", "mean norm of the rows read so often in the text"
            ),
            "rows_by_reads": ints("layer column stratum", "rows", "rows read so often in the text"),
            "effective_rank": floats(
                "layer column", "1", "exp of the entropy of the used rows' normalised singular values"
            ),
        },
    )

    def summary(self) -> str:
        """The fullest order: company in single heads and in all, beside what even spreading gives."""
        data = self.data
        order = int(data["order_index"].values[data["ngrams"].values.argmax()])
        columns = data["order"].values == order
        one = data.isel(column=columns)
        every = data.sel(order_index=order)
        distinct = wording.counted(int(every["ngrams"]), f"distinct {order}-gram")

        def share(array: xr.DataArray) -> str:
            return f"{number(100 * float(array.mean()), digits=1)} %"

        return (
            f"{distinct} of a text of {_tokens(self)}, mean over {wording.layers(data['layer'].values)} and "
            f"heads: {share(one['sharing'])} have company in a head's row "
            f"({share(one['sharing_null'])} if spread evenly), {share(every['sharing_all'])} in every head "
            f"at once ({share(every['sharing_all_null'])}), and {share(one['unused'])} of the rows are "
            f"unused ({share(one['unused_null'])})."
        )

    def plot(self, *, theme: Theme = "light", layer: int | None = None) -> go.Figure:
        """Share of n-grams and of occurrences with company, by column, at the first layer or a named one."""
        layers = self.data["layer"].values.tolist()
        if layer is not None and layer not in layers:
            raise InputError(f"Layer {layer} has no memory; {wording.layers(layers)} have.")
        return slot_bars.sharing(self.data, layer=layers[0] if layer is None else layer, theme=theme)


def _tokens(result: Result) -> str:
    return wording.counted(int(result.data.attrs["n_samples"]), "token")

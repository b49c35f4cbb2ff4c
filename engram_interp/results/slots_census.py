"""Every n-gram of a small reference text with its rows: who lives where, answered without the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go

from engram_interp.errors import InputError
from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, counted, ints, texts
from engram_interp.results.slots_index import SlotColliders, SlotOccupants
from engram_interp.views import slot_bars
from engram_interp.views.theme import Theme


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SlotCensus(Result):
    """The distinct n-grams of a reference text, how often each occurs, and its row in every head."""

    kind: ClassVar[str] = "slot_census"
    schema: ClassVar[Schema] = Schema(
        coords={
            "gram": counted("gram", "n-gram", "number of the n-gram, shorter ones first"),
            "layer": ints("layer", "layer", "memory layer, counted from 0"),
            "head": counted("head", "1", "hash head"),
        },
        variables={
            "ngram": texts("gram", "canonical n-gram"),
            "order": ints("gram", "tokens", "its number of tokens"),
            "count": ints("gram", "occurrences", "how often it occurs in the text"),
            "address": ints("layer head gram", "row", "its row of the layer's table, offsets included"),
        },
    )

    def occupants(self, *, layer: int, order: int, head: int, address: int, most: int = 50) -> SlotOccupants:
        """The n-grams that live in one row, as `slots.occupants` finds them in an index of the text.

        Args:
            layer: A memory layer, counted from 0.
            order: Order of the column that the row belongs to.
            head: Its hash head.
            address: The row, offsets included, as `slots.lookup` gives it.
            most: N-grams that are listed, the most frequent; all count in the totals.

        Raises:
            InputError: If the layer has no memory, or there is no such head.
        """
        addresses = self._addresses(layer, order)
        if head not in range(len(addresses)):
            raise InputError(f"The memory has the hash heads 0 … {len(addresses) - 1}, got {head}.")
        _, counts, names = self._of_order(order)
        here = np.flatnonzero(addresses[head] == address)
        first = here[np.argsort(-counts[here], kind="stable")][:most]
        return SlotOccupants.from_arrays(
            coords={},
            variables={
                "ngram": names[first],
                "count": counts[first],
                "layer": layer,
                "address": address,
                "order": order,
                "head": head,
                "ngrams": len(here),
                "occurrences": int(counts[here].sum()),
            },
            provenance=self._from(),
        )

    def colliders(
        self, ngram: str, addresses: Sequence[int], *, layer: int, order: int, most: int = 50
    ) -> SlotColliders:
        """The other n-grams that share rows with one, as `slots.colliders` finds them.

        Args:
            ngram: The canonical n-gram, as `slots.lookup` writes it; the text need not hold it.
            addresses: Its row in every head, offsets included.
            layer: A memory layer, counted from 0.
            order: Its number of tokens.
            most: N-grams that are listed, those that share most heads first; all count in the totals.

        Raises:
            InputError: If the layer has no memory, or there are not as many rows as heads.
        """
        every = self._addresses(layer, order)
        heads = len(every)
        if len(addresses) != heads:
            raise InputError(f"An n-gram has {heads} rows, one a head, got {len(addresses)}.")
        _, counts, names = self._of_order(order)
        own = names == ngram
        shared = (every == np.asarray(addresses)[:, None]).T
        others = np.flatnonzero(~own & shared.any(1))
        in_heads, mass = shared[others].sum(1), counts[others]
        first = np.lexsort((-mass, -in_heads))[:most]
        return SlotColliders.from_arrays(
            coords={"heads_shared": np.arange(1, heads + 1)},
            variables={
                "ngram": names[others][first],
                "count": mass[first],
                "shared": shared[others][first],
                "address": np.asarray(addresses),
                "colliders": [int((in_heads == n + 1).sum()) for n in range(heads)],
                "mass": [int(mass[in_heads == n + 1].sum()) for n in range(heads)],
                "own_count": int(counts[own].sum()),
            },
            provenance=self._from() | {"layer": layer, "ngram": ngram},
        )

    def _addresses(self, layer: int, order: int) -> np.ndarray:
        """[head, n-gram of the order]."""
        layers = self.data["layer"].values.tolist()
        if layer not in layers:
            raise InputError(f"Layer {layer} has no memory; {wording.layers(layers)} have.")
        found = self.data["address"].sel(layer=layer).transpose("head", "gram").values
        return np.asarray(found[:, self._of_order(order)[0]])

    def _of_order(self, order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers, counts and names of the n-grams of one order."""
        numbers = np.flatnonzero(self.data["order"].values == order)
        return numbers, self.data["count"].values[numbers], self.data["ngram"].values[numbers]

    def _from(self) -> dict[str, str | int | float]:
        return {str(name): value for name, value in self.data.attrs.items() if name != "kind"}

    def summary(self) -> str:
        """How many n-grams there are, by order, and of how large a text."""
        orders, of = np.unique(self.data["order"].values, return_counts=True)
        each = [wording.counted(int(n), f"distinct {o}-gram") for o, n in zip(orders, of, strict=True)]
        tokens = wording.counted(int(self.data.attrs["n_samples"]), "token")
        return (
            f"A reference text of {tokens} has {wording.listed(each)}, each with its row in every head of "
            f"{wording.layers(self.data['layer'].values)}."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Counts of the most frequent n-grams."""
        order = np.argsort(-self.data["count"].values, kind="stable")
        shown = self.data[["ngram", "count"]].isel(gram=order).rename_dims(gram="rank").drop_vars("gram")
        return slot_bars.counts(shown, title="The n-grams of the reference text", theme=theme)

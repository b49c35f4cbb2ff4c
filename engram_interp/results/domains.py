"""How much less a model's loss is than its baseline's, by kind of text."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, floats, ints, texts, with_interval
from engram_interp.views import forests
from engram_interp.views.theme import Theme, number, signed

UNITS = ("token", "byte", "loss")
"""Nats a token; nats a byte of text; percent of the baseline's loss."""


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DomainGain(Result):
    """Loss of the baseline less that of the model in every domain, per token, byte and share of the loss."""

    kind: ClassVar[str] = "domain_gain"
    schema: ClassVar[Schema] = Schema(
        coords={
            "domain": texts("domain", "kind of text"),
            "per": texts("per", "nats a token, nats a byte, or percent of the baseline's loss"),
        },
        variables={
            **with_interval("gain", floats("per domain", "see per", "baseline's loss less the model's")),
            **with_interval("difference", floats("per domain", "see per", "gain less the first domain's")),
            "baseline_loss": floats("domain", "nats", "loss of the baseline, nats a token"),
            "loss": floats("domain", "nats", "loss of the model, nats a token"),
            "tokens": ints("domain", "tokens", "tokens predicted"),
            "bytes": ints("domain", "bytes", "bytes of text that they cover"),
            "documents": ints("domain", "documents", "documents"),
        },
    )

    def summary(self) -> str:
        """The gain in every domain per token and byte, beside the losses."""
        data = self.data
        said = [_domain(data.isel(domain=i)) for i in range(data.sizes["domain"])]
        return (
            f"{data.attrs.get('model', 'The model')} gains over {data.attrs.get('baseline', 'its baseline')} "
            f"({wording.basis(data)}): {'; '.join(said)}."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Gain in nats a byte of every domain."""
        data = self.data.sel(per="byte")
        arrays = {f"value{end}": ("row", data[f"gain{end}"].values) for end in ("", "_low", "_high")}
        none = np.full(data.sizes["domain"], np.nan)
        arrays |= {f"null_value{end}": ("row", none) for end in ("", "_low", "_high")}
        rows = xr.Dataset(arrays, coords={"row": data["domain"].values})
        rows["null_value"].attrs["missing"] = "the baseline is what gains are read against"
        return forests.forest(
            rows,
            title="Where does the memory gain?",
            subtitle="baseline's loss less the model's; bars: 95 % intervals over documents",
            axis="gain (nats a byte)",
            at=0.0,
            rows="domain",
            null="random",
            theme=theme,
        )


def _domain(data: xr.Dataset) -> str:
    token, byte, share = (data.sel(per=unit) for unit in UNITS)
    ends = [float(token[f"gain{end}"]) for end in ("_low", "_high")]
    span = "" if np.isnan(sum(ends)) else f" {wording.span(*ends, digits=3)}"
    return (
        f"{data['domain'].item()} {signed(float(token['gain']))} nats a token{span}, "
        f"{signed(float(byte['gain']), digits=4)} a byte, {number(float(share['gain']), digits=1)} % of the "
        f"baseline's {number(float(data['baseline_loss']))}"
    )

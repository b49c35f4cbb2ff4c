"""The sites one can look at: what each holds, and along which axes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError

_STREAMED = ("stream",)


@dataclass(frozen=True, kw_only=True)
class Site:
    """One kind of site.

    Attributes:
        axes: Names of its axes after batch and token; "stream?" is there only with M > 1 streams.
        meaning: What the numbers are.
    """

    axes: tuple[str, ...]
    meaning: str


SITES: Mapping[str, Site] = {
    "hook_embed": Site(axes=("d_model",), meaning="token embedding"),
    "blocks.{l}.hook_resid_pre": Site(axes=("stream?", "d_model"), meaning="residual before the block"),
    "blocks.{l}.hook_engram_out": Site(axes=("stream?", "d_model"), meaning="what the memory writes"),
    "blocks.{l}.hook_attn_out": Site(axes=("d_model",), meaning="attention output"),
    "blocks.{l}.hook_resid_mid": Site(axes=("stream?", "d_model"), meaning="residual after attention"),
    "blocks.{l}.hook_mlp_out": Site(axes=("d_model",), meaning="feed-forward output"),
    "blocks.{l}.hook_resid_post": Site(axes=("stream?", "d_model"), meaning="residual after the block"),
    "blocks.{l}.hook_resid_read": Site(axes=("d_model",), meaning="the streams after the block, collapsed"),
    "blocks.{l}.engram.hook_rows": Site(axes=("column",), meaning="table addresses, int64"),
    "blocks.{l}.engram.hook_memory": Site(axes=("column", "d_row"), meaning="rows read from the table"),
    "blocks.{l}.engram.hook_mem_key": Site(axes=("stream", "d_model"), meaning="key of the memory"),
    "blocks.{l}.engram.hook_mem_value": Site(axes=("d_model",), meaning="value of the memory"),
    "blocks.{l}.engram.hook_key_normed": Site(axes=("stream", "d_model"), meaning="key, normalised"),
    "blocks.{l}.engram.hook_query_normed": Site(axes=("stream", "d_model"), meaning="residual, normalised"),
    "blocks.{l}.engram.hook_score": Site(axes=("stream",), meaning="⟨query, key⟩ / √d_model"),
    "blocks.{l}.engram.hook_gate_logit": Site(axes=("stream",), meaning="what the sigmoid is taken of"),
    "blocks.{l}.engram.hook_gate": Site(axes=("stream",), meaning="gate in (0, 1), neutral at 0.5"),
    "blocks.{l}.engram.hook_gated_value": Site(axes=("stream", "d_model"), meaning="gate times value"),
    "blocks.{l}.engram.hook_conv_out": Site(axes=("stream", "d_model"), meaning="added by the convolution"),
}
"""Sites with a fixed meaning in every family; others are named as the module names them."""


AFTER = 1 << 30
"""Stands for the layer of what follows the last block."""


def kind_of(site: str) -> str:
    """The site with its layer number left open: "blocks.3.hook_mlp_out" → "blocks.{l}.hook_mlp_out"."""
    return re.sub(r"^blocks\.\d+\.", "blocks.{l}.", site)


def axes(site: str, *, n_streams: int) -> tuple[str, ...] | None:
    """Axis names of a site's tensor, batch and token first; None for a site without a fixed meaning."""
    found = SITES.get(kind_of(site))
    if found is None:
        return None
    rest = [a.rstrip("?") for a in found.axes if a != "stream?" or n_streams > 1]
    return ("batch", "token", *rest)


def resolve(model: SubjectModel, sites: Sequence[str]) -> list[str]:
    """The model's sites that the names and patterns (``blocks.*.hook_resid_post``) stand for.

    Raises:
        InputError: If a name or pattern matches none; the message lists the nearest.
    """
    if isinstance(sites, str):
        raise InputError(f'sites wants a list of names, got the text {sites!r}; write sites=["{sites}"].')
    known, found = list(model.sites), list[str]()
    for name in sites:
        matches = [name] if name in model.sites else [s for s in known if fnmatchcase(s, name)]
        if not matches:
            raise InputError(f"{model.name} has no site {name!r}; {_nearest(name, model)}")
        found += [m for m in matches if m not in found]
    return found


def layer_of(site: str) -> int:
    """The layer a site is in: -1 for the embedding, `AFTER` for what follows the last block."""
    found = re.match(r"^blocks\.(\d+)\.", site)
    if found:
        return int(found.group(1))
    return -1 if site == "hook_embed" else AFTER


def until(model: SubjectModel, sites: Sequence[str], layer: int | None) -> list[str]:
    """The sites that names and patterns stand for, those of later layers left out.

    Raises:
        InputError: If a name or pattern matches none, the model has no such layer, or nothing is left.
    """
    names = resolve(model, sites)
    if layer is None:
        return names
    if not 0 <= layer < model.n_layers:
        raise InputError(
            f"The last layer to run wants to lie in 0 … {model.n_layers - 1} for {model.name}, got {layer}."
        )
    kept = [site for site in names if layer_of(site) <= layer]
    if names and not kept:
        raise InputError(f"No wanted site lies in layers 0 … {layer}; the first is {names[0]}.")
    return kept


def _nearest(name: str, model: SubjectModel) -> str:
    layer = re.match(r"^blocks\.(\d+)\.", name)
    if layer and int(layer.group(1)) >= model.n_layers:
        return f"its layers run from 0 to {model.n_layers - 1}."
    if layer and ".engram" in name and int(layer.group(1)) not in model.memory_layers:
        return f"layers with a memory: {list(model.memory_layers) or 'none'}."
    known = list(model.sites)
    if "*" in name:
        known = sorted({re.sub(r"^blocks\.\d+\.", "blocks.*.", site) for site in known})
    near = get_close_matches(name, known, n=4, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else "list(model.sites) names them all."

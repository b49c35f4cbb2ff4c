"""Which data the depth map is of, where a bundle holds maps of several: ``depth`` and ``depth:NAME``."""

import streamlit as st

from engram_interp.results import Bundle, DepthResult
from explorer import selection, settings, shelf, states

MAIN = "depth"


def parts(bundle: Bundle) -> list[str]:
    """The depth maps that `bundle` holds between layers of the same numbers, its main one first."""
    maps = [name for name in bundle if bundle.kind(name) == DepthResult.kind and name.startswith(f"{MAIN}:")]
    sizes = {name: _sizes(bundle, name) for name in (MAIN, *maps)}
    return [MAIN, *(name for name in maps if sizes[name] == sizes[MAIN])]


def pick(bundle: Bundle, depth: DepthResult) -> tuple[str, DepthResult]:
    """The map that is chosen, by the name of its part; a list where there are several, else a line."""
    names = parts(bundle)
    if len(names) < 2:
        if settings.DATA.value not in {"", MAIN}:
            selection.note(f"There is no data “{settings.DATA.value}” here; the one map is shown.")
            settings.DATA.put("")
        states.say(f"Data: {said(depth)}.")
        return MAIN, depth
    found = {name: depth if name == MAIN else shelf.part(bundle, name, what="depth map") for name in names}
    labels = {
        name: f"{name.partition(':')[2] or 'main'} · {said(one)}"
        for name, one in found.items()
        if isinstance(one, DepthResult)
    }
    for torn in found.values():
        if isinstance(torn, states.State):
            states.show(torn)
    chosen = settings.picked(st.container(width=560), "Data", settings.DATA, labels, said="data")
    one = found.get(chosen)
    return (chosen, one) if isinstance(one, DepthResult) else (MAIN, depth)


def said(depth: DepthResult) -> str:
    """What the samples of a map are, and how many."""
    attrs = depth.data.attrs
    samples, documents = (attrs.get(name) for name in ("n_samples", "n_documents"))
    counted = f"{samples:,} samples of {documents:,} documents" if samples and documents else ""
    return ", ".join(filter(None, [str(attrs.get("samples", "")), counted])) or "not recorded"


def _sizes(bundle: Bundle, name: str) -> tuple[object, ...]:
    entry = bundle.manifest["parts"].get(name)
    shapes = entry.get("shapes") if isinstance(entry, dict) else None
    return tuple((shapes if isinstance(shapes, dict) else {}).get(dim) for dim in ("layer", "baseline_layer"))

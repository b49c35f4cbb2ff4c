"""The address under which the explorer shows a result that was read from a bundle."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

LOCAL = "http://localhost:8501"
"""Where ``engram-interp explore`` listens unless it is told otherwise."""

PLACES: Mapping[str, tuple[str, str]] = {
    "depth": ("layers", ""),
    "lens-engram": ("layers", ""),
    "lens-baseline": ("layers", ""),
    "lens-depth": ("layers", "view lens-depth"),
    "lens-depth-tuned": ("layers", "view lens-depth-tuned"),
    "stitching": ("layers", "view stitching"),
    "second-opinions": ("layers", "view second-opinions"),
    "gates": ("tokens", ""),
    "gate-statistics": ("memory", "gates"),
    "gate-selectivity": ("memory", "gates"),
    "gate-usefulness": ("memory", "gates"),
    "gate-information": ("memory", "gates"),
    "slot-load": ("memory", ""),
    "slot-census": ("memory", ""),
    "ablation": ("ablate", ""),
    "retained": ("ablate", "retained"),
}
"""By a part's name: the page that is about it, and the fold there that it stands in, if it stands in one."""
OF_PROMPTS: Mapping[str, str] = {
    "lens-table": "tokens",
    "slots": "memory",
    "attribution": "memory",
    "promotion": "memory",
}
"""By what stands before the colon in a part's name: the page that is about it."""
_EDITS = "edit_report"


def place(kind: str, part: str) -> tuple[str, str]:
    """The page that shows a part and the fold it stands in; what no page is about stands on the overview.

    >>> place("gate_selectivity", "gate-selectivity"), place("stitching", "another")
    (('memory', 'gates'), ('', 'other another'))
    """
    if kind == _EDITS:
        return "memory", ""
    name, colon, _ = part.partition(":")
    if colon and name in OF_PROMPTS:
        return OF_PROMPTS[name], ""
    return PLACES.get(part, ("", f"other {part}"))


def address(
    kind: str,
    *,
    bundle: str,
    part: str,
    prompt: str | None = None,
    layer: int | None = None,
    token: int | None = None,
    server: str = LOCAL,
) -> str:
    """The link to a part of a bundle.

    Args:
        kind: Of the result.
        bundle: The bundle's name.
        part: The result's name in the bundle; what follows its colon is the prompt.
        prompt: Another prompt, by its name.
        layer: Counted from 0.
        token: Position in the prompt, counted from 0.
        server: Where the explorer listens.

    >>> address("slot_lookup", bundle="wiki-nano", part="slots:napoleon", token=3)
    'http://localhost:8501/memory?b=wiki-nano&prompt=napoleon&tok=3&v=1'
    """
    page, fold = place(kind, part)
    params = {
        "b": bundle,
        "prompt": prompt or part.partition(":")[2],
        "layer": "" if layer is None else str(layer),
        "tok": "" if token is None else str(token),
        "open": fold,
        "v": "1",
    }
    return (
        f"{server.rstrip('/')}/{quote(page)}?{urlencode({k: v for k, v in params.items() if v}, safe=':,')}"
    )

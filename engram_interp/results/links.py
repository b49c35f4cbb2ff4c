"""The address under which the explorer shows a result that was read from a bundle."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

LOCAL = "http://localhost:8501"
"""Where ``engram-interp explore`` listens unless it is told otherwise."""

_LAYERS = ("depth", "lens_convergence", "lens_depth", "stitching", "second_opinions")
_TOKENS = ("gate_reading", "gate_statistics", "lens_table")
_MEMORY = (
    "slot_lookup",
    "slot_load",
    "slot_census",
    "memory_attribution",
    "memory_promotion",
    "gate_selectivity",
    "gate_usefulness",
    "gate_information",
    "edit_report",
)
_ABLATE = ("ablation_effect", "retained_performance")
PAGES: Mapping[str, str] = {
    **dict.fromkeys(_LAYERS, "layers"),
    **dict.fromkeys(_TOKENS, "tokens"),
    **dict.fromkeys(_MEMORY, "memory"),
    **dict.fromkeys(_ABLATE, "ablate"),
}
"""By kind of result, the page that is about it; the others stand on the overview."""


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
    params = {
        "b": bundle,
        "prompt": prompt or part.partition(":")[2],
        "layer": "" if layer is None else str(layer),
        "tok": "" if token is None else str(token),
        "v": "1",
    }
    page = quote(PAGES.get(kind, ""))
    return f"{server.rstrip('/')}/{page}?{urlencode({k: v for k, v in params.items() if v}, safe=':,')}"

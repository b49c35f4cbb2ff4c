"""How a bundle was made, as tables: the models side by side, then everything else its maker noted."""

from collections.abc import Iterator, Mapping
from typing import Any

from engram_interp.results import Bundle, DepthResult
from engram_interp.views import tables
from engram_interp.views.markup import Html, join
from engram_interp.views.tables import Cell, Missing
from engram_interp.views.theme import number

_MODEL_FACTS = {
    "name": "name",
    "parameters": "parameters",
    "table_parameters": "of them in tables",
    "n_layers": "layers",
    "d_model": "width",
    "n_streams": "residual streams",
    "memory_layers": "memory at layers (from 0)",
    "context": "context (tokens)",
    "trained_tokens": "trained on (tokens)",
    "held_out_loss": "loss on held-out text (nats)",
    "digest": "digest of the weights",
}


def provenance(bundle: Bundle, depth: DepthResult | None) -> Html:
    """Tables of what the manifest and the depth map say about themselves."""
    meta = bundle.meta
    models = meta.pop("models", None)
    meta.pop("examples", None)  # the pages open at these
    facts: dict[str, object] = {
        "folder": bundle.path,
        "made": bundle.manifest.get("created", ""),
        "version": bundle.manifest.get("version", ""),
        "layer convention": bundle.manifest.get("layer_convention", ""),
        **dict(_flat(meta)),
    }
    if depth is not None:
        facts |= {f"depth · {name}": value for name, value in _flat(depth.data.attrs)}
    facts |= {f"package · {name}": version for name, version in _flat(bundle.manifest.get("packages", {}))}
    shown = [_side_by_side(models)] if isinstance(models, dict) and models else []
    return join([*shown, tables.facts(facts, caption="As its maker noted it")])


def _side_by_side(models: Mapping[str, Any]) -> Html:
    """One column a model, one row a fact; what a model does not say is an em dash."""
    rows: list[list[Cell]] = []
    for fact, title in _MODEL_FACTS.items():
        values = [model.get(fact) if isinstance(model, dict) else None for model in models.values()]
        if any(value is not None for value in values):
            rows.append([title, *(_cell(value) for value in values)])
    return tables.table(["model", *(str(name) for name in models)], rows, caption="The models")


def _cell(value: object) -> Cell:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or Missing(reason="none, or not recorded")
    if value is None:
        return Missing(reason="none, or not recorded")
    if isinstance(value, float):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _flat(value: object, *, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Nested names and values as one list: ``prompts · documents``."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, prefix=f"{prefix} · {name}" if prefix else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _flat(inner, prefix=f"{prefix} · {number}")
    elif value not in (None, ""):
        yield prefix, value

"""Where else the n-gram that was read stands in the prompts of the bundle, and how open the gate is there."""

from engram_interp.results import GateReading, SlotLookup
from engram_interp.views import contexts
from engram_interp.views.markup import element
from engram_interp.views.tokens import shortened, visible
from explorer import export, shelf, states, style
from explorer.scene import Scene


def show(scene: Scene, slots: SlotLookup, *, token: int, layer: int, order: int) -> None:
    """The concordance of the n-gram that ends at `token`; nothing where the gates are of another model."""
    found = shelf.part(scene.bundle, "gates", what="gates") if "gates" in scene.bundle else None
    if not isinstance(found, GateReading):
        return
    if found.data.attrs.get("model") != slots.data.attrs.get("model"):
        return
    if layer not in found.data["layer"].values:
        states.say(f"The gates of the prompts were not read at layer {layer}; where else it stands is open.")
        return
    read = slice(max(token - order + 1, 0), token + 1)
    ids = [int(one) for one in slots.data["token_id"].values[read]]
    words = visible("".join(str(text) for text in slots.data["token_text"].values[read]))
    style.html(element("h2", f"Where “{shortened(words)}” stands in the prompts", class_="engram-title"))
    table = contexts.strongest(found.data, ids, layer=layer)
    style.html(table)
    export.tools(
        found,
        bundle=scene.bundle,
        part="gates",
        call="",
        views=[f"contexts.strongest(result.data, {ids}, layer={layer})"],
        parts=lambda: [table],
    )

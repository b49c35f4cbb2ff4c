"""Where else the n-gram that was read stands in the prompts of the bundle, and how open the gate is there."""

from engram_interp.results import GateReading, SlotLookup
from engram_interp.views import contexts
from engram_interp.views.markup import Html, element
from engram_interp.views.tokens import shortened, visible
from explorer import export, shelf, states, style
from explorer.scene import Scene


def show(scene: Scene, slots: SlotLookup, *, token: int, layer: int, order: int) -> None:
    """The concordance of the n-gram that ends at `token`; nothing where the gates are of another model."""
    gates = _gates(scene, slots)
    if gates is None:
        return
    if layer not in gates.data["layer"].values:
        states.say(f"The gates of the prompts were not read at layer {layer}; where else it stands is open.")
        return
    title, table, call = _made(gates, slots, token=token, layer=layer, order=order)
    style.html(element("h2", title, class_="engram-title"))
    if "<td" not in table:
        states.say("Nowhere in the prompts of the bundle, written as it is here.")
        return
    style.html(table)
    export.tools(gates, bundle=scene.bundle, part="gates", call="", views=[call], parts=lambda: [table])


def known(scene: Scene, slots: SlotLookup, *, token: int, layer: int, order: int) -> tuple[str, Html] | None:
    """The concordance with its title; None where there is none."""
    gates = _gates(scene, slots)
    if gates is None or layer not in gates.data["layer"].values:
        return None
    title, table, _ = _made(gates, slots, token=token, layer=layer, order=order)
    return title, table


def _gates(scene: Scene, slots: SlotLookup) -> GateReading | None:
    """The gates of the bundle's prompts, if they are of the model whose slots these are."""
    found = shelf.part(scene.bundle, "gates", what="gates") if "gates" in scene.bundle else None
    same = isinstance(found, GateReading) and found.data.attrs.get("model") == slots.data.attrs.get("model")
    return found if same and isinstance(found, GateReading) else None


def _made(
    gates: GateReading, slots: SlotLookup, *, token: int, layer: int, order: int
) -> tuple[str, Html, str]:
    """Title and table, and the call that makes the table."""
    read = slice(max(token - order + 1, 0), token + 1)
    ids = [int(one) for one in slots.data["token_id"].values[read]]
    words = visible("".join(str(text) for text in slots.data["token_text"].values[read]))
    return (
        f"Where “{shortened(words)}” stands in the prompts",
        contexts.strongest(gates.data, ids, layer=layer),
        f"contexts.strongest(result.data, {ids}, layer={layer})",
    )

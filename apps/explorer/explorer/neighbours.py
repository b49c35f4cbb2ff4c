"""Who shares a row of the memory: occupants, colliders, and how full the tables are."""

import streamlit as st

from engram_interp.results import SlotCensus, SlotLoad, SlotLookup
from explorer import export, settings, shelf, states, style
from explorer.live import Neighbours, live
from explorer.scene import Scene
from explorer.waiting import result_of

CENSUS = "slot-census"


def show(scene: Scene, slots: SlotLookup, *, token: int, layer: int, column: int) -> None:
    """The n-grams of the bundle's prompts that live in a row, and those that collide with the one read."""
    at = slots.data.sel(token=token, layer=layer, column=column)
    order = int(at["order"])
    ngram = str(at["ngram"].sel(order_index=order).item())
    census = _census(scene, slots)
    if census is not None:
        found = _counted(census, slots, token=token, layer=layer, column=column, ngram=ngram)
        text = f"the reference text of this bundle, {int(census.data.attrs['n_samples']):,} tokens"
    else:
        texts = [one.text for one in scene.prompts.values() if one.text and not one.typed]
        if not _can_be_indexed(texts):
            return
        job = live().neighbours(texts, slots, token=token, layer=layer, column=column)
        indexed = result_of(job, what="Looking who shares the row")
        if indexed is None:
            return
        found, text = indexed, f"the {len(texts)} prompts of the bundle, a small text"
    ids = slots.data["token_id"].values[max(token - order + 1, 0) : token + 1].tolist()
    _draw(scene, found, ngram=ngram, ids=ids, order=order, census=census is not None)
    states.say(
        f"Looked through: {text}. In the text a model was trained on, rows are shared by many more n-grams "
        "(engram-interp index)."
    )
    if found.load is not None and "slot-load" not in scene.bundle:
        fold = settings.fold("How full the tables are of these prompts", key="live load")
        if fold.open:
            with fold:
                load(found.load, layer=layer, key="live")
                code = _indexed(scene, "load(model, index)")
                export.tools(
                    found.load, bundle=None, part="slot-load", call="plot()", code=code, drawn="load live"
                )


def _census(scene: Scene, slots: SlotLookup) -> SlotCensus | None:
    """The n-grams of the bundle's reference text, if they are numbered as these slots are."""
    if CENSUS not in scene.bundle:
        return None
    found = shelf.part(scene.bundle, CENSUS, what="n-grams of the reference text")
    if isinstance(found, states.State):
        states.show(found)
        return None
    same = isinstance(found, SlotCensus) and found.data.attrs.get("model") == slots.data.attrs.get("model")
    return found if same and isinstance(found, SlotCensus) else None


def _counted(
    census: SlotCensus, slots: SlotLookup, *, token: int, layer: int, column: int, ngram: str
) -> Neighbours:
    """The same as a live run finds, from the bundle."""
    here = slots.data.sel(token=token, layer=layer)
    order, head, address = (int(here[name].sel(column=column)) for name in ("order", "head", "address"))
    rows = here["address"].values[here["order"].values == order].tolist()
    whole = token - order + 1 >= 0
    return Neighbours(
        load=None,
        occupants=census.occupants(layer=layer, order=order, head=head, address=address),
        colliders=census.colliders(ngram, rows, layer=layer, order=order) if whole else None,
    )


def _can_be_indexed(texts: list[str]) -> bool:
    """Whether a live run may index the prompts; says what is missing where it may not."""
    if live().missing or not texts:
        why = live().missing or "The bundle holds no texts to look through."
        todo = "Open a bundle with prompts, or index a text of your own and ask it:"
        command = "engram-interp index MODEL --text FILE --out DIR"
        states.show(states.State(what="Not known here.", why=why, todo=todo, command=command))
        return False
    if settings.LIVE.value != "on":
        states.show(
            states.State(
                what="Who shares the row is not in this bundle.",
                why=f"It takes an index of its {len(texts)} prompts under the hashes of {live().name}.",
                todo=f"Turn on “Compute what is missing with {live().name}” above.",
            )
        )
        return False
    return True


def _draw(scene: Scene, found: Neighbours, *, ngram: str, ids: list[int], order: int, census: bool) -> None:
    """The row's n-grams beside those that share any row of the n-gram that was read."""
    opened = export.opened(scene.bundle, CENSUS) if census else ""
    left, right = st.columns(2, gap="medium")
    with left:
        shown = found.occupants
        drawn = shown.plot(theme=style.theme(), mark=ngram)
        style.figure(drawn, key="occupants", alt=shown.summary())
        states.say(f"{shown.summary()} Blue: the n-gram that was read here; grey: others.")
        row = ", ".join(f"{name}={int(shown.data[name])}" for name in ("layer", "order", "head", "address"))
        place = f"layer={int(shown.data['layer'])}, address={int(shown.data['address'])}"
        code = (
            f"{opened}.occupants({row})" if census else _indexed(scene, f"occupants(model, index, {place})")
        )
        export.tools(shown, bundle=None, part="occupants", call="plot()", code=code, drawn="occupants")
    with right:
        shared = found.colliders
        if shared is None:
            states.say("The n-gram reaches back before the text, so its colliders are not looked for.")
            return
        style.figure(shared.plot(theme=style.theme()), key="colliders", alt=shared.summary())
        states.say(shared.summary())
        place = f"layer={shared.data.attrs['layer']}"
        if census:
            rows = shared.data["address"].values.tolist()
            code = f"{opened}.colliders({ngram!r}, {rows}, {place}, order={order})"
        else:
            code = _indexed(scene, f"colliders(model, index, {list(ids)}, {place})")
        export.tools(shared, bundle=None, part="colliders", call="plot()", code=code, drawn="colliders")


def _indexed(scene: Scene, call: str) -> str:
    """The lines that index the prompts of the bundle and ask the index."""
    return (
        "from engram_interp import slots\nfrom engram_interp.checkpoints import load_model\n"
        "from engram_interp.results import open_bundle\n\n"
        f'prompts = open_bundle({str(scene.bundle.path)!r})["gates"].data["prompt_text"].values.tolist()\n'
        f"model = load_model({live().source!r})\n"
        f'index = slots.index(model, prompts, out="prompts.index")\n'
        f"result = slots.{call}"
    )


def load(found: SlotLoad, *, layer: int, key: str) -> None:
    """Share of n-grams with company, by column, beside what even spreading gives."""
    layers = [int(one) for one in found.data["layer"].values]
    nearest = min(layers, key=lambda one: abs(one - layer))
    style.figure(found.plot(theme=style.theme(), layer=nearest), key=f"load {key}", alt=found.summary())
    states.say(found.summary())

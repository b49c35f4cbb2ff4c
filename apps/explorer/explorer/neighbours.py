"""Who shares a row of the memory: occupants, colliders, and how full the tables are."""

from dataclasses import dataclass

from engram_interp.results import Bundle, SlotCensus, SlotLoad, SlotLookup
from explorer import earlier, export, settings, shelf, states, style
from explorer.live import live, neighboured
from explorer.live_results import Neighbours
from explorer.scene import Scene
from explorer.waiting import result_of

CENSUS = "slot-census"


@dataclass(frozen=True, kw_only=True)
class Found:
    """Who shares a row that was read, and where that was looked up.

    Attributes:
        ngram: the n-gram that was read, in canonical tokens.
        ids: its token ids.
        order: its length.
        neighbours: what was found.
        text: the text looked through, in words.
        census: whether it comes from the bundle's reference text.
    """

    ngram: str
    ids: tuple[int, ...]
    order: int
    neighbours: Neighbours
    text: str
    census: bool


def columns(slots: SlotLookup, *, token: int, layer: int) -> dict[str, str]:
    """The rows that a token read at a layer, in the order of their columns: by name in links, as said."""
    at = slots.data.sel(token=token, layer=layer)
    read = zip(at["order"].values, at["head"].values, at["address"].values, strict=True)
    return {f"{order}.{head}": f"order {order}, head {head}: row {int(row):,}" for order, head, row in read}


def find(scene: Scene, slots: SlotLookup, *, token: int, layer: int, column: int) -> Found | None:
    """Who shares a row, from the bundle or from a live run; None, and a state, where it is not known yet."""
    census = shelf.part(scene.bundle, CENSUS, what="n-grams of the reference text")
    if CENSUS in scene.bundle and isinstance(census, states.State):
        states.show(census)
    found = known(scene, slots, token=token, layer=layer, column=column)
    texts = _texts(scene)
    if found is None and _can_be_indexed(texts, of=other_model(slots)):
        job = live().neighbours(texts, slots, token=token, layer=layer, column=column)
        if result_of(job, what="Looking who shares the row", panel="neighbours") is not None:
            found = known(scene, slots, token=token, layer=layer, column=column)
    return found


def known(scene: Scene, slots: SlotLookup, *, token: int, layer: int, column: int) -> Found | None:
    """The same as far as it is known: by the bundle's reference text, or by a live run that is done."""
    at = slots.data.sel(token=token, layer=layer, column=column)
    order = int(at["order"])
    ngram = str(at["ngram"].sel(order_index=order).item())
    census, texts = _census(scene, slots), _texts(scene)
    neighbours: Neighbours | None = None
    if census is not None:
        neighbours = _counted(census, slots, token=token, layer=layer, column=column, ngram=ngram)
        text = f"the reference text of this bundle, {int(census.data.attrs['n_samples']):,} tokens"
    elif texts and settings.LIVE.value == "on" and not live().missing and not other_model(slots):
        neighbours = neighboured(texts, slots, token=token, layer=layer, column=column)
        text = f"the {len(texts)} prompts of the bundle, a small text"
    if neighbours is None:
        return None
    ids = tuple(slots.data["token_id"].values[max(token - order + 1, 0) : token + 1].tolist())
    return Found(
        ngram=ngram, ids=ids, order=order, neighbours=neighbours, text=text, census=census is not None
    )


def _texts(scene: Scene) -> list[str]:
    return [one.text for one in scene.prompts.values() if one.text and not one.typed]


def _census(scene: Scene, slots: SlotLookup) -> SlotCensus | None:
    """The n-grams of the bundle's reference text, if they are numbered as these slots are."""
    if CENSUS not in scene.bundle:
        return None
    found = shelf.part(scene.bundle, CENSUS, what="n-grams of the reference text")
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


def other_model(slots: SlotLookup) -> str:
    """The model whose hashes number these rows, where another one runs here; else empty."""
    model = str(slots.data.attrs.get("model", ""))
    return "" if live().missing or model == live().name else model


def _can_be_indexed(texts: list[str], *, of: str) -> bool:
    """Whether a live run may index the prompts; says what is missing where it may not.

    Args:
        texts: the prompts.
        of: another model than the live one, if the rows are its.
    """
    if live().missing or not texts:
        why = live().missing or "The bundle holds no texts to look through."
        todo = "Open a bundle with prompts, or index a text of your own and ask it:"
        command = "engram-interp index MODEL --text FILE --out DIR"
        states.show(states.State(what="Not known here.", why=why, todo=todo, command=command))
        return False
    if of:
        states.show(
            states.State(
                what="Who shares the row is not in this bundle.",
                why=f"These rows are numbered as {of} hashes; {live().name}, which runs here, hashes "
                "otherwise.",
                todo=f"Run the prompt with {live().name} and see its rows, or start the explorer with {of}:",
                command="engram-interp explore BUNDLE --model PATH",
            )
        )
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


def occupants(scene: Scene, found: Found) -> None:
    """The n-grams of the text that live in the row, the one that was read marked."""
    shown = found.neighbours.occupants
    if not int(shown.data["ngrams"]):
        states.say(f"{shown.summary()} Looked through: {found.text}.")
        return

    def draw() -> None:
        drawn = shown.plot(theme=style.theme(), mark=found.ngram)
        style.figure(drawn, key="occupants", alt=shown.summary())

    draw()
    row = ", ".join(f"{name}={int(shown.data[name])}" for name in ("layer", "order", "head", "address"))
    earlier.keep("neighbours", of=f"“{found.ngram}”, {row}", draw=draw)
    states.say(f"{shown.summary()} Blue: the n-gram that was read here; grey: others.")
    if found.census:
        code = f"{export.opened(scene.bundle, CENSUS)}.occupants({row})"
    else:
        place = f"layer={int(shown.data['layer'])}, address={int(shown.data['address'])}"
        code = _indexed(scene, f"occupants(model, index, {place})")
    export.tools(
        shown,
        bundle=None,
        part="occupants",
        call=f"plot(mark={found.ngram!r})",
        code=code,
        figure=lambda: shown.plot(mark=found.ngram),
        drawn="occupants",
    )


def colliders(scene: Scene, found: Found, *, layer: int) -> None:
    """The n-grams that share any row of the n-gram that was read, and how full the tables are of the text."""
    shared, all_rows = found.neighbours.colliders, found.neighbours.load
    if shared is None:
        states.say("The n-gram reaches back before the text, so its colliders are not looked for.")
    elif not shared.data.sizes["rank"]:
        states.say(shared.summary())
    else:
        style.figure(shared.plot(theme=style.theme()), key="colliders", alt=shared.summary())
        states.say(shared.summary())
        place = f"layer={shared.data.attrs['layer']}"
        if found.census:
            rows = shared.data["address"].values.tolist()
            code = (
                f"{export.opened(scene.bundle, CENSUS)}"
                f".colliders({found.ngram!r}, {rows}, {place}, order={found.order})"
            )
        else:
            code = _indexed(scene, f"colliders(model, index, {list(found.ids)}, {place})")
        export.tools(shared, bundle=None, part="colliders", call="plot()", code=code, drawn="colliders")
    states.say(
        f"Looked through: {found.text}. In the text a model was trained on, rows are shared by many more "
        "n-grams (engram-interp index)."
    )
    if all_rows is not None and "slot-load" not in scene.bundle:
        fold = settings.fold("How full the tables are of these prompts", key="live load")
        if fold.open:
            with fold:
                code = _indexed(scene, "load(model, index)")
                load(all_rows, layer=layer, key="live", code=code)


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


def load(found: SlotLoad, *, layer: int, key: str, bundle: Bundle | None = None, code: str = "") -> None:
    """Share of n-grams with company, by column, beside what even spreading gives."""
    layers = [int(one) for one in found.data["layer"].values]
    nearest = min(layers, key=lambda one: abs(one - layer))
    style.figure(found.plot(theme=style.theme(), layer=nearest), key=f"load {key}", alt=found.summary())
    states.say(found.summary())
    export.tools(
        found,
        bundle=bundle,
        part="slot-load",
        call=f"plot(layer={nearest})",
        code=code,
        figure=lambda: found.plot(layer=nearest),
        drawn=f"load {key}",
    )

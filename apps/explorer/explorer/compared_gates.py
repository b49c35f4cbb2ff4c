"""The gates of one prompt in two bundles, token for token, and the lines that open both."""

from engram_interp.results import Bundle, GateReading, Result
from engram_interp.views.markup import Html, element
from engram_interp.views.strips import gate_strip
from explorer import export, selection, shelf, states, style
from explorer.scene import Scene

STRIP = 96
"""Tokens of a strip that are shown side by side."""


def show(one: Scene, other: Scene) -> None:
    """The gates of the chosen prompt in both, token for token; or why they cannot be set side by side."""
    name = selection.current().prompt
    here, there = one.prompts.get(name), other.prompts.get(name)
    if here is None or here.row is None:
        states.say("The gates of a prompt that both bundles hold can be set side by side: pick one above.")
        return
    style.html(element("h2", f"The gates on “{name}”", class_="engram-title"))
    if there is None or there.row is None:
        few = [prompt for prompt in other.prompts if prompt in one.prompts][:6]
        states.show(
            states.State(
                what=f"B has no gates for “{name}”.",
                why=f"The bundles share {', '.join(few)}." if few else "The two bundles share no prompt.",
                todo=("Pick one of these. " if few else "") + "What speaks of no tokens is compared above.",
            )
        )
        return
    readings = (if_there(one.bundle, "gates"), if_there(other.bundle, "gates"))
    tokens = [
        found.data["token_text"].values[prompt.row, : prompt.tokens].tolist()
        for found, prompt in zip(readings, (here, there), strict=True)
        if isinstance(found, GateReading)
    ]
    if len(tokens) == 2 and tokens[0] != tokens[1]:
        states.show(
            states.State(
                what="The two read this text as different tokens.",
                why=f"A has {len(tokens[0])} tokens, B {len(tokens[1])}: their tokenisers differ.",
                todo="Comparison token by token is off; what is per layer stands above.",
            )
        )
        return
    first, last = _window(len(tokens[0])) if tokens else (0, STRIP)
    strips: dict[str, Html] = {}
    shown: dict[str, Result] = {}
    for label, found, prompt in (("A", readings[0], here), ("B", readings[1], there)):
        if isinstance(found, GateReading) and prompt.row is not None:
            number = int(found.data["prompt"].values[prompt.row])
            strips[label] = gate_strip(found.data, prompt=number, rows="max", start=first, stop=last)
            shown[label] = GateReading(data=found.data.sel(prompt=[number]))
            style.html(element("h3", f"{label} · the largest stream of each layer"), strips[label])
    if not shown:
        return
    lines = "\n".join(
        f'display(gate_strip({label.lower()}["gates"].data, '
        f'prompt={int(found.data["prompt"].item())}, rows="max", start={first}, stop={last}))'
        for label, found in shown.items()
    )
    export.together(
        shown,
        name="gates of both",
        parts=lambda: [part for label, strip in strips.items() for part in (label, strip)],
        code=code(one.bundle, other.bundle, lines),
    )


def _window(length: int) -> tuple[int, int]:
    """The tokens shown side by side, the chosen one among them."""
    start = max(min(selection.current().token - STRIP // 2, length - STRIP), 0)
    return start, min(start + STRIP, length)


def if_there(bundle: Bundle, part: str) -> Result | None:
    """A part of a bundle, where it is there and whole."""
    found = shelf.part(bundle, part, what=part) if part in bundle else None
    return found if isinstance(found, Result) else None


def code(one: Bundle, other: Bundle, lines: str) -> str:
    """Lines that open both bundles, and then `lines`."""
    return (
        "from engram_interp.results import open_bundle\n"
        "from engram_interp.views import comparing, differences\n"
        "from engram_interp.views.strips import gate_strip\n\n"
        f"a = open_bundle({str(one.path)!r})\nb = open_bundle({str(other.path)!r})\n{lines}"
    )

"""The text of a prompt under its gates, and in words what stands at the chosen token."""

from typing import cast

from engram_interp.results import SlotLookup
from engram_interp.views import strips
from engram_interp.views.markup import Html, element, join
from engram_interp.views.strips import gate_strip
from engram_interp.views.theme import number
from engram_interp.views.tokens import token_html
from explorer import bar, export, readings, selection, states, strip, style
from explorer.live import live

STILL = 200
"""Tokens of a strip that is only looked at."""


def show(present: readings.Present, *, text: str) -> None:
    """The text under its gates, and in words what stands at the chosen token."""
    if isinstance(present.gate, states.State):
        states.show(present.gate)
        return
    chosen = selection.current()
    of: strips.Rows | int = (
        int(chosen.stream) if chosen.stream.isdigit() else cast(strips.Rows, chosen.stream)
    )
    rows = strips.gate_rows(present.gate, rows=of)
    ground = min(range(len(rows)), key=lambda i: abs(rows[i].layer - chosen.layer))
    strip.show(
        present.tokens,
        rows,
        ground=ground,
        token=chosen.token,
        orders=readings.orders(present),
        pick=lambda token: selection.choose(token=token),
    )
    names = "; ".join(row.name for row in rows)
    legend = [
        element(
            "span", "gate 0 ", element("span", class_="scale"), " 1, fixed scale; the tick is 0.5, neutral"
        ),
        element("span", f"ground: {_ground(rows[ground], chosen.layer)}; bars from the top: {names}"),
        element("span", f"{len(present.tokens)} tokens, {present.origin}"),
    ]
    gates = ", ".join(f"{row.name} {number(float(row.values[chosen.token]))}" for row in rows)
    token = element("code", token_html(present.tokens[chosen.token]))
    said = element("p", f"Token {chosen.token} ", token, f" · gate: {gates}", _grams(present, chosen.token))
    style.html(element("div", said, class_="readout"), element("div", *legend, class_="legend"))
    reading, number_of = present.gates, present.prompt
    if reading is not None:
        export.tools(
            reading,
            bundle=None if present.live else bar.scene().bundle,
            part="gates",
            call="",
            views=[f"strips.gate_strip(result.data, prompt={number_of}, rows={of!r})"],
            code=export.ran(live().source, "gates", f"read(model, [{text!r}])"),
            parts=lambda: [strips.gate_strip(reading.data, prompt=number_of, rows=of)],
            rows={"prompt": [number_of], "token": range(len(present.tokens))},
        )


def _ground(row: strips.GateRow, layer: int) -> str:
    """Which gates colour the ground: those of the chosen layer, or of the nearest that has any here."""
    return row.name if layer in {row.layer, -1} else f"{row.name}, as layer {layer} has no gates here"


def still(present: readings.Present) -> None:
    """The text under its gates, without anything to pick."""
    if present.gates is not None:
        style.html(gate_strip(present.gates.data, prompt=present.prompt, rows="max", stop=STILL))


def _grams(present: readings.Present, token: int) -> Html:
    """The canonical n-grams that end at the token, longest last."""
    if not isinstance(present.slots, SlotLookup):
        return Html("")
    grams = present.slots.data["ngram"].sel(token=token)
    said: list[str] = [" · looked up:"]
    for order in grams["order_index"].values:
        said += [
            f" {int(order)}-gram ",
            element("code", token_html(str(grams.sel(order_index=order).item()))),
        ]
    return join(said)

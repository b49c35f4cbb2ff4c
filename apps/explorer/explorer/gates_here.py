"""The gates at the chosen token, by layer and stream, beside the rest of the text and an untrained gate."""

from engram_interp.results import GateStatistics
from engram_interp.views import gate_here
from engram_interp.views.markup import element
from explorer import earlier, export, readings, shelf, states, style
from explorer.live import live
from explorer.scene import Prompt, Scene


def show(scene: Scene, prompt: Prompt, present: readings.Present, *, token: int) -> None:
    """Draw the matrix; nothing where the gates are missing, which the strip above says."""
    if isinstance(present.gate, states.State):
        return
    style.html(element("h2", "How open are the gates here", class_="engram-title"))
    statistics = _statistics(scene, present)
    made = gate_here.gates_here(
        present.gate, token=token, statistics=None if statistics is None else statistics.data
    )
    style.html(made)
    earlier.also(earlier.READING, lambda: style.html(made))
    if present.gates is None:
        return
    whole = f'result.data["gate"].sel(prompt={present.prompt})'
    code = export.ran(live().source, "gates", f"read(model, [{prompt.text!r}])")
    beside = ""
    if statistics is not None:
        beside = ', statistics=bundle["gate-statistics"].data'
        code = (
            f"from engram_interp.results import open_bundle\n{code}\n"
            f"bundle = open_bundle({str(scene.bundle.path)!r})"
        )
    export.tools(
        present.gates,
        bundle=None if present.live else scene.bundle,
        part="gates",
        call="",
        views=[f"gate_here.gates_here({whole}, token={token}{beside})"],
        code=code,
        parts=lambda: [made],
        rows={"prompt": [present.prompt], "token": [token]},
    )


def _statistics(scene: Scene, present: readings.Present) -> GateStatistics | None:
    """The distribution of untrained gates, where the bundle holds that of the same model."""
    found = (
        shelf.part(scene.bundle, "gate-statistics", what="gates")
        if "gate-statistics" in scene.bundle
        else None
    )
    if not isinstance(found, GateStatistics):
        return None
    return found if str(found.data.attrs.get("model", "")) == present.model else None

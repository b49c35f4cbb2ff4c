"""Over all prompts of a bundle: the gates beside their nulls, whether they choose, what ablations cost."""

from collections.abc import Mapping

import streamlit as st

from engram_interp.results import (
    AblationEffect,
    Bundle,
    GateInformation,
    GateSelectivity,
    GateStatistics,
    GateUsefulness,
    Result,
    RetainedPerformance,
)
from engram_interp.views import gates as views
from engram_interp.views import memory_tables as tables
from engram_interp.views.markup import element
from explorer import export, readings, settings, shelf, states, style
from explorer.live import live
from explorer.scene import Prompt

TESTS: Mapping[str, str] = {
    "gate-selectivity": "gate selectivity",
    "gate-usefulness": "gate usefulness",
    "gate-information": "gate information",
}
"""By part: what the report calls it."""
RETAINED: Mapping[str, str] = {"retained": "retained performance"}


def gates(bundle: Bundle, prompt: Prompt, present: readings.Present, *, token: int) -> None:
    """The gates beside their nulls with the chosen token among them, then the tests of the gates."""
    style.html(element("h2", "The gates, over all prompts of the bundle", class_="engram-title"))
    statistics = shelf.part(bundle, "gate-statistics", what="gate statistics")
    other = _other_model(statistics, present)
    if other:
        states.say(f"All below is of {other}; the text above was run by {present.model}.")
    if isinstance(statistics, GateStatistics):
        gate = None if other or isinstance(present.gate, states.State) else present.gate.isel(token=token)
        data = statistics.data
        drawn = views.quantiles_with_token(data, gate, token=token, theme=style.theme())
        style.figure(drawn, key="gate statistics", alt=statistics.summary())
        states.say(statistics.summary())
        export.tools(
            statistics,
            bundle=None,
            part="gate-statistics",
            call="",
            views=[f"gates.quantiles_with_token(result.data, gate, token={token})"],
            code=_with_gate(bundle, prompt, present, token=token, known=gate is not None),
            parts=lambda: [views.quantiles_with_token(data, gate, token=token)],
            drawn="gate statistics",
        )
    elif isinstance(statistics, states.State):
        states.show(statistics)
    found = _found(bundle, TESTS)
    left, right = st.columns(2, gap="medium")
    with left:
        _gate_test(bundle, "gate-selectivity", found)
    with right:
        _gate_test(bundle, "gate-usefulness", found)
        _gate_test(bundle, "gate-information", found)
    _say_absent(bundle, TESTS)


def _with_gate(bundle: Bundle, prompt: Prompt, present: readings.Present, *, token: int, known: bool) -> str:
    """The lines that open the statistics, and the `gate` of the chosen token as the page has it."""
    opened = export.opened(bundle, "gate-statistics")
    if not known:
        return f"{opened}\ngate = None"
    if present.live:
        ran = export.ran(live().source, "slots", f"lookup(model, {prompt.text!r})").replace("result", "reads")
        imports, lines = ran.split("\n\n")
        return f'{imports}\n{opened}\n{lines}\ngate = reads.data["gate"].sel(token={token})'
    if present.gates is not None:
        return f'{opened}\ngate = bundle["gates"].data["gate"].sel(prompt={present.prompt}, token={token})'
    return f'{opened}\ngate = bundle[{f"slots:{prompt.name}"!r}].data["gate"].sel(token={token})'


def ablations(bundle: Bundle) -> None:
    """What switching the memory off costs over all prompts, and what is retained without it."""
    style.html(element("h2", "Over all prompts of the bundle", class_="engram-title"))
    effect = shelf.part(bundle, "ablation", what="ablation effects")
    if isinstance(effect, AblationEffect):
        style.figure(effect.plot(theme=style.theme()), key="ablation effect", alt=effect.summary())
        states.say(effect.summary(), *filter(None, [effect.coinciding()]))
        export.tools(effect, bundle=bundle, part="ablation", call="plot()", drawn="ablation effect")
    elif isinstance(effect, states.State):
        states.show(effect)
    _retained(bundle, _found(bundle, RETAINED).get("retained"))
    _say_absent(bundle, RETAINED)


def _found(bundle: Bundle, parts: Mapping[str, str]) -> dict[str, Result | states.State]:
    return {part: shelf.part(bundle, part, what=what) for part, what in parts.items() if part in bundle}


def _say_absent(bundle: Bundle, parts: Mapping[str, str]) -> None:
    """One note on the parts that the bundle does not hold."""
    absent = [what for part, what in parts.items() if part not in bundle]
    if absent:
        states.show(shelf.absent(bundle, absent))


def _other_model(statistics: Result | states.State, present: readings.Present) -> str:
    """The model of the bundle's gates where the text above is another one's; else empty."""
    if isinstance(statistics, states.State):
        return ""
    model = str(statistics.data.attrs.get("model", ""))
    return model if present.live and present.model != model else ""


def _gate_test(bundle: Bundle, part: str, found: Mapping[str, Result | states.State]) -> None:
    """A test of the gates: its figure, its sentence, and the gates by training hits where it has them."""
    test = found.get(part)
    if isinstance(test, states.State):
        states.show(test)
    elif isinstance(test, GateSelectivity | GateUsefulness | GateInformation):
        style.figure(test.plot(theme=style.theme()), key=f"figure {part}", alt=test.summary())
        states.say(test.summary())
        if isinstance(test, GateSelectivity):
            style.html(tables.strata_table(test.data))
            states.say(
                "Frequent n-grams differ from rare ones in much else, and no untrained null stands beside "
                "the strata."
            )
        strata = [tables.strata_table(test.data)] if isinstance(test, GateSelectivity) else []
        export.tools(
            test,
            bundle=bundle,
            part=part,
            call="plot()",
            views=["memory_tables.strata_table(result.data)"] * len(strata),
            parts=lambda: [test.plot(), *strata],
            drawn=f"figure {part}",
        )


def _retained(bundle: Bundle, found: Result | states.State | None) -> None:
    """One set of probes at a time, drawn when the fold is opened."""
    if isinstance(found, states.State):
        states.show(found)
    if not isinstance(found, RetainedPerformance):
        return
    states.say(found.summary())
    fold = settings.fold("What is left without the memory, probe by probe set", key="retained")
    if not fold.open:
        return
    with fold:
        names = [str(name) for name in found.data["probe_set"].values]
        if settings.PROBES.value not in names:
            settings.PROBES.put(names[0])
        name = settings.segmented(
            st.container(), "Probe set", settings.PROBES, options=names, say=style.plain
        )
        drawn = found.plot(theme=style.theme(), probe_set=name)
        style.figure(drawn, key="figure retained", alt=found.summary())
        style.html(tables.retained_table(found.data, probe_set=name))
        style.html(tables.retained_strata_table(found.data, probe_set=name))
        states.say("The strata hold few probes: read their intervals first.")
        export.tools(
            found,
            bundle=bundle,
            part="retained",
            call=f"plot(probe_set={name!r})",
            views=[
                f"memory_tables.retained_table(result.data, probe_set={name!r})",
                f"memory_tables.retained_strata_table(result.data, probe_set={name!r})",
            ],
            parts=lambda: [
                found.plot(probe_set=name),
                tables.retained_table(found.data, probe_set=name),
                tables.retained_strata_table(found.data, probe_set=name),
            ],
            drawn="figure retained",
        )

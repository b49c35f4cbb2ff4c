"""Ablate: what changes when part of the memory is switched off, always beside random controls."""

import streamlit as st

from engram_interp.results import AblationComparison
from engram_interp.views import comparing, predictions, tables
from engram_interp.views.markup import element
from explorer import (
    ablate_form,
    bar,
    earlier,
    export,
    opening,
    over_all,
    readings,
    selection,
    settings,
    states,
    style,
    switch_off,
)
from explorer.live import live
from explorer.live_results import unknown_words
from explorer.scene import Prompt
from explorer.spec import Spec, parse
from explorer.waiting import result_of


def page() -> None:
    """Draw the page."""
    scene = bar.scene()
    found = opening.opened()
    if found is not None:
        _one_prompt(*found)
    over_all.ablations(scene.bundle)


def _one_prompt(prompt: Prompt, present: readings.Present) -> None:
    style.html(element("h2", "Switch the memory off, or change it, in this text", class_="engram-title"))
    if not switch_off.possible(prompt, present):
        return
    token = selection.current().token
    same = readings.of_live_model(present)
    tokens, offered = len(present.tokens), readings.parts(present) if same else {}
    if same:
        for setting in (settings.SPEC, settings.BESIDE):
            ablate_form.set_right(setting, tokens=tokens, offered=offered)
    wanted = _spec(settings.SPEC)
    ablate_form.show(wanted, text=prompt.text, token=token, tokens=tokens, offered=offered)
    if not same or isinstance(present.slots, states.State):
        states.say(
            "Which parts there are to choose from is known once the prompt is run; until then all that are "
            "not listed are switched off."
        )
        readings.offer_live(prompt, key="ablate")
    if wanted is None:
        states.say(
            "Nothing was run yet. Choose what is switched off and press Run: the prediction after the token "
            "is shown as it is, with the memory changed, and under two controls: other rows at the same "
            "place, and a change of the same size."
        )
        return
    if wanted.token != token:
        states.say(
            f"Shown: token {wanted.token}, as it was run. Token {token} is chosen now; Run takes that one."
        )
    beside = _beside(prompt, wanted)
    runs = {"A": wanted} if beside is None else {"A": wanted, "B": beside}
    done = {title: found for title, spec in runs.items() if (found := _result(prompt, spec, title=title))}
    if len(done) > 1:
        _both(prompt, {f"{title}: {runs[title].label}": found for title, found in done.items()}, runs)
    for title, found in done.items():
        _run(prompt, runs[title], found, title=title)


def _result(prompt: Prompt, spec: Spec, *, title: str) -> AblationComparison | None:
    """One run's result, once it is there."""
    job = live().compare(prompt.text, spec)
    return result_of(job, what=f"Run {title}, {spec.label}", panel=f"run {title}")


def _both(prompt: Prompt, done: dict[str, AblationComparison], runs: dict[str, Spec]) -> None:
    """The two runs in one table and one figure."""
    data = {label: found.data for label, found in done.items()}
    style.html(comparing.runs_table(data))
    drawn = comparing.runs_by_token(data, theme=style.theme())
    style.figure(drawn, key="both runs", alt="KL to the intact prediction by token, run A and B")
    export.together(
        done,
        name="both runs",
        parts=lambda: [comparing.runs_table(data), comparing.runs_by_token(data)],
        code=switch_off.code_of_both(prompt.text, runs["A"], runs["B"]),
        drawn="both runs",
    )


def _spec(setting: settings.Setting) -> Spec | None:
    """The ablation that a setting names; a name that is none is said."""
    found = parse(setting.value) if setting.value else None
    if setting.value and found is None:
        states.say(f"The link names the ablation “{setting.value}”, which is none; nothing was run for it.")
    if found is not None and found.text != setting.value:
        setting.put(found.text)  # the same one, as this tool spells it
    return found


def _beside(prompt: Prompt, wanted: Spec) -> Spec | None:
    """The list of this visit's runs of the text, and the one that is chosen to stand beside."""
    given = _spec(settings.BESIDE)
    runs = ablate_form.history(prompt, [wanted, *([] if given is None else [given])])
    frame = st.container(horizontal=True, vertical_alignment="bottom", key="history")
    said = {spec.text: spec.label for spec in runs}
    settings.picked(frame, f"Run A, of {len(runs)} so far", settings.SPEC, said)
    others = {"": "nothing", **{text: label for text, label in said.items() if text != wanted.text}}
    settings.picked(frame, "beside run B", settings.BESIDE, others)
    return given if given != wanted else None


def _run(prompt: Prompt, spec: Spec, found: AblationComparison, *, title: str) -> None:
    """One run: its predictions under every condition, its effect by token, its numbers."""
    _drawn(spec, found, title=title)
    _keep(prompt, spec, found, title=title)
    with settings.fold(f"Every number of run {title}", key=f"numbers {title}"):
        style.html(tables.prediction_table(found.data))
    code = switch_off.code(prompt.text, spec)
    export.tools(
        found,
        bundle=None,
        part=f"ablation-{title}",
        call="plot()",
        views=[
            f"predictions.columns(result.data, run={f'Run {title}'!r})",
            "tables.prediction_table(result.data)",
        ],
        code=code,
        parts=lambda: [
            predictions.columns(found.data, run=f"Run {title}"),
            tables.prediction_table(found.data),
            found.plot(),
        ],
        drawn=f"effect by token {title}",
    )
    _lens(found, title=title, code=code)


def _drawn(spec: Spec, found: AblationComparison, *, title: str) -> None:
    """Predictions under every condition, and the effect by token."""
    style.html(
        element("h3", f"{title} · {spec.label} ({spec.kind})", class_="engram-run"),
        predictions.columns(found.data, run=f"Run {title}"),
    )
    states.say(*filter(None, [found.summary(), unknown_words(found)]))
    style.figure(found.plot(theme=style.theme()), key=f"effect by token {title}", alt=found.summary())


def _keep(prompt: Prompt, spec: Spec, found: AblationComparison, *, title: str) -> None:
    """Remember the run for while another is computed, of this text or of the next one."""

    def draw() -> None:
        _drawn(spec, found, title=title)

    earlier.keep(f"run {title}", of=f"{spec.label}, {prompt.label}", draw=draw)
    earlier.also(earlier.READING, draw)


def _lens(found: AblationComparison, *, title: str, code: str) -> None:
    """What the change does at every layer, beside the control of the same size."""
    if found.unread:
        why = found.unread[:1].upper() + found.unread[1:]
        todo = "Make it again with ablation.compare, on a model whose layers the lens can read."
        states.show(states.State(what=f"Run {title} has no lens grid.", why=why, todo=todo))
        return
    alt = f"Change of the logit lens by layer and token, run {title}, beside a change of the same size"
    style.figure(found.plot(theme=style.theme(), view="lens"), key=f"lens grid {title}", alt=alt)
    states.say(
        "Orange: the layer reads further from the model’s own answer than before; blue: nearer to it. "
        "Early layers need not speak the last one’s language: read the change beside the control’s."
    )
    export.tools(
        found,
        bundle=None,
        part=f"lens-grid-{title}",
        call='plot(view="lens")',
        code=code,
        figure=lambda: found.plot(view="lens"),
        drawn=f"lens grid {title}",
    )

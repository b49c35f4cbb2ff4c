"""Report: what is open, as one HTML file that opens offline, or as tables in one zip file."""

from collections.abc import Sequence

import streamlit as st

from engram_interp.results import Result
from engram_interp.views import images
from engram_interp.views.markup import Html, element
from explorer import (
    ablate_form,
    assemble,
    bar,
    export,
    neighbours,
    readings,
    sections,
    selection,
    settings,
    shared,
    states,
    style,
    switch_off,
)
from explorer.live import live
from explorer.scene import Prompt, Scene
from explorer.spec import parse
from explorer.waiting import result_of


def page() -> None:
    """Draw the page."""
    scene = bar.scene()
    prompt = bar.prompts().get(selection.current().prompt)
    style.html(element("h2", "Take away what is open", class_="engram-title"))
    states.say(
        "One HTML file with the figures, strips and tables of the bundle and of the prompt in the bar, in "
        "light and dark; it opens without a network and without this tool, and saves its figures as SVG or "
        "PNG."
    )
    chapters = _chapters()
    note = _note()
    if not chapters:
        states.say("Choose at least one chapter.")
        return
    if prompt is not None:
        _await(scene, prompt, chapters)
    shown = assemble.opened(scene, prompt, chapters, link=bar.link("report"))
    found = shown.results
    if shown.left_out:
        states.show(
            states.State(
                what=f"Left out: {', '.join(shown.left_out)}.",
                why=" ".join(shown.left_out.values()),
                todo="The other parts go in.",
                tone="error",
            )
        )
    if not found:
        states.show(
            states.State(
                what="There is nothing to take away.",
                why=f"The bundle “{scene.bundle.name}” holds none of the parts of these chapters.",
                todo="Choose more chapters, or open another bundle in the bar.",
            )
        )
        return
    name = scene.bundle.name
    with st.container(horizontal=True, key="take away"):
        st.download_button(
            "HTML report",
            data=lambda: sections.page(shown, note=note).encode(),
            file_name=f"{name}-explorer.html",
            mime="text/html",
            key="report html",
            on_click="ignore",
            type="primary",
            help=export.OFFLINE,
        )
        st.download_button(
            "Tables (CSV, zip)",
            data=lambda: export.zipped(found),
            file_name=f"{name}-tables.zip",
            mime="application/zip",
            key="report zip",
            on_click="ignore",
        )
        for kind in ("svg", "png"):
            export.pictures(lambda: sections.figures(shown), kind=kind, name=f"{name}-figures")
    missing = images.missing()
    if missing:
        states.say(missing)
    style.html(element("h2", "What goes in", class_="engram-title"))
    said = sections.verdict(shown)
    if said:
        style.html(element("p", said, class_="engram-verdict"))
    style.html(
        element(
            "ul",
            *(_entry(part, result, shown) for part, result in found.items()),
            class_="engram-list",
        )
    )


def _entry(part: str, result: Result, shown: assemble.Open) -> Html:
    """What a part is called, and its sentence."""
    called = sections.called(part, result, shown)
    title = element("b", f"{called[:1].upper()}{called[1:]}. ")
    return element("li", title, element("span", sections.said(result, shown.token)))


def _await(scene: Scene, prompt: Prompt, chapters: Sequence[str]) -> None:
    """Run what other pages show of the prompt, if a link opened this one first."""
    present = readings.present(prompt)
    if live().missing or not prompt.text or not isinstance(present, readings.Present):
        return
    held = not bar.runs_live(prompt) and assemble.stored(scene, prompt, "promotion") is not None
    if "memory" in chapters and settings.LIVE.value == "on" and not held:
        asked = live().attribute(prompt.text, token=selection.current().token)
        result_of(asked, what="What the memory gives", panel="report attribution")
    if "memory" in chapters and settings.LIVE.value == "on":
        _await_row(scene, prompt)
    if "ablate" not in chapters:
        return
    named = [parse(settings.SPEC.value), parse(settings.BESIDE.value)]
    for spec in dict.fromkeys([*named, switch_off.wanted(present, token=selection.current().token)]):
        if spec is None:
            continue
        job = live().compare(prompt.text, spec)
        found = result_of(job, what=f"Running {spec.label}", panel=f"report {spec.text}")
        if found is not None:
            ablate_form.history(prompt, [spec])


def _await_row(scene: Scene, prompt: Prompt) -> None:
    """Look who shares the row that is chosen on Memory, where that is not known yet."""
    chosen = assemble.row_of(scene, prompt)
    if chosen is not None:
        neighbours.find(scene, chosen.slots, token=chosen.token, layer=chosen.layer, column=chosen.column)


def _note() -> str:
    """The reader's own words; a link names them, and never carries them."""
    key = settings.NOTE.key
    known = shared.text_of(settings.NOTE.value)
    if settings.NOTE.value and known is None:
        states.say("The link speaks of a note that was written elsewhere; its words are not known here.")
    st.session_state[key] = known or ""

    def written() -> None:
        text = str(st.session_state[key])
        settings.NOTE.put(shared.remember("note", text) if text.strip() else "")

    return st.text_area(
        "Note",
        key=key,
        placeholder="Why you looked, what you make of it",
        max_chars=5000,
        on_change=written,
    )


def _chapters() -> list[str]:
    """The chapters that are chosen, in their order."""
    wanted = settings.PARTS.value.split(",")
    key = settings.PARTS.key
    st.session_state[key] = [name for name in assemble.CHAPTERS if name in wanted]
    st.pills(
        "Chapters",
        list(assemble.CHAPTERS),
        selection_mode="multi",
        format_func=lambda name: assemble.CHAPTERS[name][0],
        key=key,
        on_change=lambda: settings.PARTS.put(",".join(st.session_state[key]) or "none"),
    )
    return list(st.session_state[key])

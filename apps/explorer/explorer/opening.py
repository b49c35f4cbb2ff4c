"""What the pages about one text begin with: the field to type in, the tokens under their gates."""

from explorer import bar, earlier, readings, remake, selection, states, strip_panel, typed
from explorer.scene import Prompt


def opened() -> tuple[Prompt, readings.Present] | None:
    """Draw the field and the strip; None where there is no text to show, and the page says why."""
    scene = bar.scene()
    prompt = bar.prompts().get(selection.current().prompt)
    typed.ask(prompt)
    if prompt is None:
        way = remake.makes(scene.bundle, "them")
        states.show(
            states.State(
                what="No prompts in this bundle.",
                why=f"The bundle “{scene.bundle.name}” holds neither gates nor slots nor lens tables.",
                todo=f"Type a phrase above. {way.todo}",
                command=way.command,
            )
        )
        return None
    present = readings.present(prompt)
    if present is None:
        return None
    if isinstance(present, states.State):
        states.show(present)
        return None
    if present.cut is not None:
        states.show(present.cut)
    if present.notes:
        states.say(present.notes)
    strip_panel.show(present, text=prompt.text)
    of = f"{prompt.label}, {present.model or present.origin}"
    earlier.keep(earlier.READING, of=of, draw=lambda: strip_panel.still(present))
    return prompt, present

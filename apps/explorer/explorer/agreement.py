"""Do similarity, prediction and function agree? The views of depth on one axis, each folded below it."""

from collections.abc import Collection, Mapping

from engram_interp.results import Bundle, DepthResult, LensDepthResult, Result, StitchingResult
from engram_interp.results import agreement as results
from engram_interp.views.markup import element
from explorer import export, settings, shelf, states, style

VIEWS: Mapping[str, tuple[str, str]] = {
    "stitching": ("stitching", "Function: stitching"),
    "lens-depth": ("lens depth", "Prediction: lens depth by the raw lens"),
    "lens-depth-tuned": ("tuned lens depth", "Prediction: lens depth by the tuned lens"),
    "second-opinions": ("other measures", "Other measures of similarity"),
}
"""By part: what the report calls it, and its title."""

DEPTHS = ("stitching", "lens-depth", "lens-depth-tuned")
"""Those that say how deep a layer is, which `sentence` is made of."""

Found = Mapping[str, Result | states.State]


def views_of(bundle: Bundle, parts: Collection[str] = VIEWS) -> Found:
    """The views that the bundle holds of `parts`, or why one cannot be read."""
    there = [part for part in VIEWS if part in bundle and part in parts]
    return {part: shelf.part(bundle, part, what=VIEWS[part][0]) for part in there}


def sentence(depth: DepthResult, found: Found) -> str:
    """Whether the views agree, and what may be concluded; empty where there is but one."""
    raw, tuned, stitching = _read(found)
    others = [one for one in (raw, tuned, stitching) if one is not None]
    return results.agreement(depth, raw, stitching, tuned=tuned) if others else ""


def verdict(depth: DepthResult, found: Found) -> str:
    """What all views together allow to say, in a sentence or two."""
    raw, tuned, stitching = _read(found)
    return results.verdict(depth, raw, stitching, tuned=tuned)


def _read(found: Found) -> tuple[LensDepthResult | None, LensDepthResult | None, StitchingResult | None]:
    """Lens depth by the raw and by the tuned lens, and stitching, where they are there and whole."""
    raw, tuned, stitching = (found.get(part) for part in ("lens-depth", "lens-depth-tuned", "stitching"))
    return (
        raw if isinstance(raw, LensDepthResult) else None,
        tuned if isinstance(tuned, LensDepthResult) else None,
        stitching if isinstance(stitching, StitchingResult) else None,
    )


def figure(bundle: Bundle, depth: DepthResult, found: Found) -> None:
    """Every view's shift beside its control, and the sentence that says whether they agree."""
    raw, tuned, stitching = _read(found)
    said = results.agreement(depth, raw, stitching, tuned=tuned)
    views = results.views(depth, raw, stitching, tuned=tuned)
    style.figure(results.plot(views, theme=style.theme()), key="agreement", alt=said)
    style.html(element("p", said, class_="engram-line"))
    shown = {"depth": depth, "lens-depth": raw, "stitching": stitching, "lens-depth-tuned": tuned}
    export.together(
        {part: view for part, view in shown.items() if view is not None},
        name="agreement",
        parts=lambda: [results.plot(views)],
        code=_code(bundle, shown),
        drawn="agreement",
    )


def _code(bundle: Bundle, shown: Mapping[str, Result | None]) -> str:
    """The lines that draw the figure again."""
    given = [None if view is None else f"bundle[{part!r}]" for part, view in shown.items()]
    return (
        "from engram_interp.results import agreement, open_bundle\n\n"
        f"bundle = open_bundle({str(bundle.path)!r})\n"
        f"depth, raw, stitching, tuned = {', '.join(map(str, given))}\n"
        "print(agreement.agreement(depth, raw, stitching, tuned=tuned))\n"
        "agreement.plot(agreement.views(depth, raw, stitching, tuned=tuned))"
    )


def folded(bundle: Bundle, found: Found) -> None:
    """Each view under its title, drawn when it is opened; then one note on those that are not there."""
    for part, view in found.items():
        if isinstance(view, states.State):
            states.show(view)
            continue
        fold = settings.fold(VIEWS[part][1], key=f"view {part}")
        if fold.open:
            with fold:
                style.figure(view.plot(theme=style.theme()), key=f"figure {part}", alt=view.summary())
                states.say(view.summary())
                export.tools(view, bundle=bundle, part=part, call="plot()", drawn=f"figure {part}")
    absent = [what for part, (what, _) in VIEWS.items() if part not in found]
    if absent:
        states.show(shelf.absent(bundle, absent))

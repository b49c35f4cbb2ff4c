"""Sections that set the three views of depth side by side, and each view on its own."""

import math

from engram_interp.results import DepthResult, LensDepthResult, SecondOpinions, StitchingResult, wording
from engram_interp.results.agreement import agreement, plot, views
from engram_interp.views.page import Part, Section
from engram_interp.views.tables import Cell, table
from engram_interp.views.theme import signed

_HOW = (
    "Three ways to place a layer on the baseline's scale, each over the same interior layers after the first "
    "memory read. Similarity: which baseline layer it resembles. Prediction: at which baseline layer the "
    "lens is as "
    "near to the final answer. Function: in place of which baseline layer it serves best, after an affine "
    "map. "
    "Views that agree are a finding; one alone is a picture."
)
_LENS = (
    "Readiness is not depth: a model that predicts better for any reason may have its answer ready earlier, "
    "and "
    "the raw lens reads every layer as if it spoke the last layer's language."
)
_TUNED = (
    "The tuned lens (Belrose et al. 2023) translates each layer by an affine map, trained on held-out text, "
    "before "
    "it is read out, so a layer need not speak the last layer's language. Where the two lenses disagree, "
    "what the "
    "raw one shows is about language, not about readiness."
)
_STITCH = (
    "A layer of the model with memory is mapped affinely into the baseline in place of layer i, the "
    "baseline's "
    "own later layers go on from there, and the loss on held-out documents is counted. The map is fitted on "
    "other "
    "documents. A layer that carries more information may stitch better everywhere; what counts is where it "
    "stitches best."
)


def agreement_sections(
    depth: DepthResult,
    lens_depth: LensDepthResult | None,
    stitching: StitchingResult | None,
    opinions: SecondOpinions | None,
    *,
    tuned: LensDepthResult | None = None,
) -> list[Section]:
    """The paragraph and figure on agreement; then, folded, each view, other measures and the power.

    A view that could not be worked out is None; the page's notes say why.
    """
    figure = plot(views(depth, lens_depth, stitching, tuned=tuned))
    sections = [
        Section(
            title="Do similarity, prediction and function agree?",
            parts=[_HOW, figure, agreement(depth, lens_depth, stitching, tuned=tuned)],
        )
    ]
    for title, how, view in (
        ("Function: stitching", _STITCH, stitching),
        ("Prediction: lens depth by the raw lens", _LENS, lens_depth),
        ("Prediction: lens depth by the tuned lens", _TUNED, tuned),
        ("Other measures of similarity", "", opinions),
    ):
        if view is not None:
            parts = [how, view.plot(), view.summary()] if how else [view.plot(), view.summary()]
            sections.append(Section(title=title, parts=parts, fold="closed"))
    return [*sections, Section(title="How robust the headline is", parts=_robust(depth), fold="closed")]


def _robust(depth: DepthResult) -> list[Part]:
    """The headline by other readings, and the shift that could have been seen."""
    rows: list[list[Cell]] = []
    for label, name in (
        ("monotone path (the headline)", "headline"),
        ("without the 2 % of tokens of largest norm", "headline_trimmed"),
        ("the paper's soft index, same layers", "soft_headline"),
        ("another seed of the baseline in the model's place", "null_headline"),
    ):
        value, low, high = (wording.scalar(depth.data, f"{name}{end}") for end in ("", "_low", "_high"))
        if math.isnan(value):
            rows.append([label, f"n/a: {wording.why_missing(depth.data[name])}", ""])
            continue
        interval = "none" if math.isnan(low + high) else wording.span(low, high)
        rows.append([label, signed(value, digits=2), interval])
    parts: list[Part] = [table(["mean shift (layers)", "value", "95 % interval"], rows)]
    seen = wording.scalar(depth.data, "detectable")
    if not math.isnan(seen):
        parts.append(
            f"Power: with these samples a true shift of {seen:.2f} layers would have been told from 0 in "
            "about three cases of four."
        )
    return parts

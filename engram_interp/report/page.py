"""The report as one self-contained HTML page, in the order a sceptical reader asks.

What was compared, what was found and against which control, how it was measured, what it does not
mean, and where every number comes from.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import engram_interp
from engram_interp.errors import InputError
from engram_interp.report import agreement, gates, layers, memory
from engram_interp.report.analyses import Findings
from engram_interp.results import (
    AblationEffect,
    ConvergenceResult,
    DepthResult,
    GateInformation,
    GateReading,
    GateSelectivity,
    GateStatistics,
    GateUsefulness,
    LensDepthResult,
    LensTable,
    Result,
    RetainedPerformance,
    SecondOpinions,
    SlotLookup,
    StitchingResult,
    wording,
)
from engram_interp.results.provenance import package_versions
from engram_interp.views.markup import Html, element
from engram_interp.views.page import Section, html_page
from engram_interp.views.tables import Cell, table
from engram_interp.views.theme import number

R = TypeVar("R", bound=Result)

_CAVEATS = (
    "Similarity is not function. CKA says that two layers hold similar geometry, not that they do the same "
    "work; only stitching puts a layer of one model in the place of a layer of the other.",
    "CKA is moved by a few tokens of large norm. The headline is given with and without them; the share they "
    "hold by layer is in the bundle (outlier_share).",
    "The soft index of the paper is biased at the first and last layers, and the other readings have few "
    "layers to choose from there: edge layers are marked and left out of the headline.",
    "Intervals resample documents (of the probes, the probes). They say how the numbers would vary on more "
    "text of this kind, for these two models. They do not say how they would vary over training runs: here "
    "is one run of each.",
    "Intervals are not corrected for the number of layers, gates, ablations and probe sets looked at.",
    "The raw logit lens understates what early layers know.",
    "Ablation puts a model off its training distribution, which overstates how much it relies on memory.",
    "A difference between the two models can come from anything in which they differ, the number of "
    "parameters first of all.",
)


def page(found: Findings) -> str:
    """The page as text, for one HTML file that needs no network and no other file.

    Raises:
        InputError: If a part is missing.
    """
    examples = found.meta["examples"]
    engram = _part(found, "lens-engram", ConvergenceResult)
    baseline = _part(found, "lens-baseline", ConvergenceResult)
    depth = _part(found, "depth", DepthResult)
    retained = _part_if_there(found, "retained", RetainedPerformance)
    first = examples[0]
    sections = [
        *_notes(found.meta["notes"]),
        _compared(found.meta, depth, engram, baseline),
        *layers.depth_sections(depth),
        *agreement.agreement_sections(
            depth,
            _part_if_there(found, "lens-depth", LensDepthResult),
            _part_if_there(found, "stitching", StitchingResult),
            _part_if_there(found, "second-opinions", SecondOpinions),
            tuned=_part_if_there(found, "lens-depth-tuned", LensDepthResult),
        ),
        *layers.lens_sections(engram, baseline),
        *gates.gate_sections(
            _part(found, "gate-statistics", GateStatistics), _part(found, "gates", GateReading), examples
        ),
        *gates.test_sections(
            _part_if_there(found, "gate-selectivity", GateSelectivity),
            _part_if_there(found, "gate-information", GateInformation),
            _part_if_there(found, "gate-usefulness", GateUsefulness),
        ),
        memory.ablation_section(
            _part(found, "ablation", AblationEffect),
            meanings=found.meta["ablations"],
        ),
        *([] if retained is None else memory.retained_sections(retained)),
        *memory.slot_sections(
            _part(found, f"slots:{first['id']}", SlotLookup),
            _part(found, f"lens-table:{first['id']}", LensTable),
            first,
        ),
        _methods(depth, found.meta),
    ]
    return html_page(
        title=f"Engram report: {found.meta['name']}",
        lead=depth.summary(),
        sections=sections,
        manifest=_provenance(found),
    )


def _provenance(found: Findings) -> dict[str, Any]:
    """Everything that says how the numbers were made; what all parts share stands once."""
    attrs = {name: {str(k): v for k, v in part.data.attrs.items()} for name, part in found.parts.items()}
    first = next(iter(attrs.values()))
    shared = {k: v for k, v in first.items() if all(k in a and a[k] == v for a in attrs.values())}
    own = {name: {k: v for k, v in a.items() if k not in shared} for name, a in attrs.items()}
    versions = {"engram-interp": engram_interp.__version__, **package_versions()}
    return {
        "created": found.created,
        **found.meta,
        "packages": versions,
        "all parts": shared,
        "parts": own,
    }


def _part(found: Findings, name: str, kind: type[R]) -> R:
    part = found.parts.get(name)
    if not isinstance(part, kind):
        raise InputError(f"The report wants the part {name!r} ({kind.__name__}); it is not there.")
    return part


def _part_if_there(found: Findings, name: str, kind: type[R]) -> R | None:
    return _part(found, name, kind) if name in found.parts else None


def _notes(notes: list[str]) -> list[Section]:
    if not notes:
        return []
    return [Section(title="Before you read", parts=[_bullets(notes)])]


def _bullets(texts: Iterable[str]) -> Html:
    return element("ul", *(element("li", text) for text in texts), style="max-width:52em")


def _compared(
    meta: Mapping[str, Any], depth: DepthResult, engram: ConvergenceResult, baseline: ConvergenceResult
) -> Section:
    models = meta["models"]
    one, other = models["engram"], models["baseline"]
    loss = {"engram": engram, "baseline": baseline}
    text = meta["prompts"]
    prompts = (
        f"Both were run on {wording.counted(text['documents'], 'document')} with "
        f"{wording.counted(text['tokens'], 'token')} ({text['source']}). Depth is compared at "
        f"{wording.counted(int(depth.data.attrs.get('n_samples', 0)), 'token')}: "
        f"{depth.data.attrs.get('samples', 'tokens drawn at random')}."
    )
    return Section(
        title="What was compared",
        parts=[_model_table(models, loss), prompts, _difference(one, other)],
    )


def _model_table(models: Mapping[str, Any], loss: Mapping[str, ConvergenceResult]) -> Html:
    both = ("engram", "baseline")
    recorded = (
        ("parameters", "parameters"),
        ("· of which table rows", "table_parameters"),
        ("layers", "n_layers"),
        ("width of the residual", "d_model"),
        ("residual streams", "n_streams"),
        ("context (tokens)", "context"),
        ("tokens trained on", "trained_tokens"),
        ("held-out loss after training (nats per token)", "held_out_loss"),
    )
    rows: list[list[Cell]] = [["layers that read memory (from 0)", *(_layers(models[part]) for part in both)]]
    for label, key in recorded:
        rows.append([label, *(_recorded(models[part].get(key)) for part in both)])
    rows.append(
        [
            "loss on these prompts after their first token (nats per token), 95 %",
            *(_loss(loss[part]) for part in both),
        ]
    )
    rows.append(["weights, SHA-256", *(str(models[part]["digest"] or "unknown")[:16] for part in both)])
    names = (f"{models[part]['name']}" for part in both)
    return table(
        ["", *(f"{name} ({what})" for name, what in zip(names, ("with memory", "baseline"), strict=True))],
        rows,
    )


def _recorded(value: object) -> str:
    if isinstance(value, float):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else "not recorded"


def _layers(model: Mapping[str, Any]) -> str:
    return ", ".join(map(str, model["memory_layers"])) or "none"


def _loss(result: ConvergenceResult) -> str:
    value, low, high = (float(result.data[f"next_loss{end}"][-1]) for end in ("", "_low", "_high"))
    interval = "" if math.isnan(low + high) else f" {wording.span(low, high, digits=3)}"
    return f"{number(value)}{interval}"


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What else differs between the two, before anything is put down to memory."""
    more = one["parameters"] - other["parameters"]
    said = "One training run (one seed) of each stands here."
    if more:
        share = abs(more) / other["parameters"]
        word = "more" if more > 0 else "fewer"
        said += (
            f" The model with memory has {abs(more):,} parameters {word} than the baseline "
            f"({100 * share:.0f} %). Where the two differ below, capacity is an explanation beside memory "
            "and this comparison cannot tell them apart."
        )
    return said


def _methods(depth: DepthResult, meta: Mapping[str, Any]) -> Section:
    attrs = depth.data.attrs
    how = (
        f"CKA: linear, {attrs.get('estimator')} estimator, streams: {attrs.get('streams')}. Samples are "
        f"assigned to groups of {attrs.get('group_rows', '?')} tokens, whole documents to one group "
        f"({attrs.get('n_groups', '?')} groups); HSIC terms are averaged over groups before the ratio is "
        f"taken. Intervals: {attrs.get('interval')}, {meta['n_boot']:,} resamples, seed {meta['seed']}; for "
        "lens, gates and ablations over documents. Reference for the shift: "
        f"{attrs.get('reference')}. Layers are counted from 0 and mean the residual after that block; the "
        "paper counts from 1."
    )
    return Section(title="How it was measured, and what it does not mean", parts=[how, _bullets(_CAVEATS)])

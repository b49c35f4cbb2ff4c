"""Every analysis of the report, run in order, with the facts that go with them."""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram_interp import ablation, attribution, depth, gates, lens, lens_depth, opinions, slots, stitching
from engram_interp.capture.encode import Encoded, encode
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data.prompts import PromptSet
from engram_interp.errors import InputError
from engram_interp.report.model_facts import model_facts
from engram_interp.results import ConvergenceResult, Result, wording
from engram_interp.results.provenance import now

EXAMPLES = 6
PER_DOCUMENT = 3
"""Tokens of each document at which a gate is shut; each costs two runs of its prompt."""
_NOTES_AT_MOST = 5
_WHOLE_3_GRAM = 3
"""First position, the separator being at 0, whose 3-gram lies within the text."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The results about a pair, and what a reader has to know about them.

    Attributes:
        name: What the report and its bundle are called; safe as a file name.
        parts: Results by part name: "depth", "lens-engram", "slots:<prompt>", …
        meta: Models, prompts, seed, examples and notes, as JSON values.
        created: When, in UTC (ISO 8601).
    """

    name: str
    parts: Mapping[str, Result]
    meta: Mapping[str, Any]
    created: str


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """One analysis: its part names, the share of the whole time it is expected to take, and its work."""

    name: str
    share: float
    work: Callable[[], dict[str, Result]]


def analyse(
    engram: SubjectModel,
    baseline: SubjectModel,
    prompts: PromptSet,
    *,
    name: str,
    training: Mapping[str, Mapping[str, Any]] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    on_stage: Callable[[float, str], None] = lambda _done, _name: None,
) -> Findings:
    """Run every analysis of the report.

    Args:
        engram: The model with memory.
        baseline: The model to compare it with.
        prompts: Texts; where entities are marked, depth is compared at their last tokens.
        name: What the report is called.
        training: Of "engram" and "baseline", the training.json where there is one.
        n_boot: Bootstrap samples of every interval.
        seed: Of groupings, permutations, controls and bootstraps.
        on_stage: Called before each analysis and at the end, with the expected share of the time that is
            done and what comes next.

    Raises:
        InputError: If the first model has no memory, or the prompts cannot be compared.
    """
    if not engram.memory_layers:
        raise InputError(
            f"{engram.name} has no memory to report on; give the model with Engram first, then the baseline."
        )
    encoded = encode(engram, prompts)
    examples = _examples(prompts, encoded)
    parts: dict[str, Result] = {}
    left_out: list[str] = []
    stages = _stages(
        engram, baseline, prompts, examples, parts=parts, left_out=left_out, n_boot=n_boot, seed=seed
    )
    total = sum(stage.share for stage in stages)
    done = 0.0
    for stage in stages:
        on_stage(done / total, stage.name)
        parts |= stage.work()
        done += stage.share
    on_stage(1.0, "done")
    meta = {
        "made_by": "engram-interp report",
        "name": name,
        "models": {
            part: model_facts(model, (training or {}).get(part, {}))
            for part, model in (("engram", engram), ("baseline", baseline))
        },
        "prompts": {
            "name": prompts.name,
            "source": prompts.source,
            "documents": len(prompts),
            "tokens": int(encoded.mask.sum()),
            "marked_entities": sum(map(len, prompts.entities)),
        },
        "seed": seed,
        "n_boot": n_boot,
        "examples": examples,
        "ablations": {kind: ablation.MEANING[kind] for kind in ablation.STANDARD},
        "notes": [*_notes(engram, baseline, prompts, encoded, parts), *left_out],
    }
    return Findings(name=safe_name(name), parts=parts, meta=meta, created=now())


def safe_name(name: str) -> str:
    """A name that can be a folder's on every system.

    >>> safe_name("runs/mine vs. base"), safe_name("..")
    ('runs-mine-vs.-base', 'report')
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "report"


def _stages(
    engram: SubjectModel,
    baseline: SubjectModel,
    prompts: PromptSet,
    examples: list[dict[str, Any]],
    *,
    parts: Mapping[str, Result],
    left_out: list[str],
    n_boot: int,
    seed: int,
) -> list[_Stage]:
    """The analyses in order; the shares are seconds measured on two cores with the packaged pair.

    `parts` holds what the stages before a stage have found. Some want more documents than others: what
    cannot be worked out is named in `left_out`.
    """
    drawn: dict[str, Any] = {"n_boot": n_boot, "seed": seed}

    def tables() -> dict[str, Result]:
        found: dict[str, Result] = {}
        for example in examples:
            name, text = example["id"], prompts.texts[example["index"]]
            found[f"lens-table:{name}"] = lens.table(engram, text)
            found[f"slots:{name}"] = slots.lookup(engram, text)
        return found

    def contributions() -> dict[str, Result]:
        found: dict[str, Result] = {}
        for example in examples:
            name, text, at = example["id"], prompts.texts[example["index"]], example["token"]
            found[f"attribution:{name}"] = attribution.memory(engram, text, token=at, seed=seed)
            found[f"promotion:{name}"] = attribution.promoted(engram, text, token=at, seed=seed)
        return found

    def occupancy() -> Result:
        with tempfile.TemporaryDirectory() as folder:
            return slots.load(engram, slots.index(engram, prompts.texts, out=Path(folder) / "index"))

    def across() -> Result:
        one, other = parts["lens-engram"], parts["lens-baseline"]
        assert isinstance(one, ConvergenceResult) and isinstance(other, ConvergenceResult)
        return lens_depth.from_convergence(one, other, **drawn)

    def stage(title: str, share: float, name: str, work: Callable[[], Result]) -> _Stage:
        return _Stage(name=title, share=share, work=lambda: {name: work()})

    def tuned() -> Result:
        return lens_depth.compare(engram, baseline, prompts, lens="tuned", **drawn)

    never = None if baseline.memory_layers else baseline  # a baseline with a memory shows nothing here
    both_tuned = engram.tuned_lens is not None and baseline.tuned_lens is not None

    def attempt(title: str, share: float, work: Callable[[], dict[str, Result]]) -> _Stage:
        def tried() -> dict[str, Result]:
            try:
                return work()
            except InputError as reason:
                left_out.append(f"The report is without {title}: {reason}")
                return {}

        return _Stage(name=title, share=share, work=tried)

    def where_possible(title: str, share: float, name: str, work: Callable[[], Result]) -> _Stage:
        return attempt(title, share, lambda: {name: work()})

    return [
        stage("depth map", 10, "depth", lambda: depth.compare(engram, baseline, prompts, **drawn)),
        stage("lens, Engram", 7, "lens-engram", lambda: lens.convergence(engram, prompts, **drawn)),
        stage("lens, baseline", 7, "lens-baseline", lambda: lens.convergence(baseline, prompts, **drawn)),
        where_possible("lens depth", 1, "lens-depth", across),
        *([where_possible("tuned lens depth", 14, "lens-depth-tuned", tuned)] if both_tuned else []),
        where_possible(
            "stitching", 60, "stitching", lambda: stitching.compare(engram, baseline, prompts, **drawn)
        ),
        where_possible(
            "other measures",
            20,
            "second-opinions",
            lambda: opinions.compare(engram, baseline, prompts, **drawn),
        ),
        stage("gates", 2, "gates", lambda: gates.read(engram, prompts)),
        stage("gate nulls", 28, "gate-statistics", lambda: gates.statistics(engram, prompts, **drawn)),
        where_possible(
            "gate selectivity", 10, "gate-selectivity", lambda: gates.selectivity(engram, prompts, **drawn)
        ),
        where_possible(
            "gate information", 17, "gate-information", lambda: gates.information(engram, prompts, seed=seed)
        ),
        where_possible(
            "gate usefulness",
            24,
            "gate-usefulness",
            lambda: gates.usefulness(engram, prompts, per_document=PER_DOCUMENT, **drawn),
        ),
        stage(
            "ablations",
            22,
            "ablation",
            lambda: ablation.effect(engram, prompts, baseline=never, **drawn),
        ),
        where_possible(
            "retained performance",
            36,
            "retained",
            lambda: ablation.retained(engram, kinds=ablation.STANDARD, baseline=never, **drawn),
        ),
        _Stage(name="example prompts", share=1, work=tables),
        attempt("what the examples' reads contribute", 3, contributions),
        where_possible("load of the tables", 1, "slot-load", occupancy),
    ]


def _examples(prompts: PromptSet, encoded: Encoded) -> list[dict[str, Any]]:
    """A few prompts evenly spaced through the set, and of each the token whose slots are shown.

    That token ends the first marked entity that has a whole 3-gram before it; without one, the prompt.
    """
    count = min(EXAMPLES, len(prompts))
    chosen = sorted({round(i * len(prompts) / count) for i in range(count)})
    found = []
    for i in chosen:
        end = next((t for t in encoded.entity_ends[i] if t >= _WHOLE_3_GRAM), None)
        last = int(encoded.mask[i].sum()) - 1
        found.append(
            {
                "id": prompts.ids[i],
                "index": i,
                "token": last if end is None else end,
                "chosen": "its last" if end is None else "the first to end a marked entity",
            }
        )
    return found


def _notes(
    engram: SubjectModel,
    baseline: SubjectModel,
    prompts: PromptSet,
    encoded: Encoded,
    parts: Mapping[str, Result],
) -> list[str]:
    """What has to be read before any number: prompts cut short, intervals that are not there."""
    cut = list(encoded.notes)
    others = encode(baseline, prompts).notes
    if {note.replace(baseline.name, engram.name) for note in others} != set(cut):
        cut += others
    notes = cut[:_NOTES_AT_MOST]
    if len(cut) > _NOTES_AT_MOST:
        notes.append(f"{len(cut) - _NOTES_AT_MOST} more prompts were too long in the same way.")
    for what, name, variable in (
        ("The depth shift has", "depth", "path_shift_low"),
        ("Lens, gates and ablations have", "lens-engram", "kl_low"),
    ):
        bound = parts[name].data[variable]
        if bool(bound.isnull().all()):
            notes.append(f"{what} no interval: {wording.why_missing(bound)}.")
    return [*notes, *engram.notes, *baseline.notes]

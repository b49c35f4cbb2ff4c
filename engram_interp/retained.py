"""How much of what a model can do is left without its memory: facts, reading, plain continuation.

Retained performance (paper section 6.3) is the score of the ablated model over that of the intact one, both
above chance: (ablated - chance) / (intact - chance). Where the intact model is not clearly above chance
there is nothing to retain, and the ratio is undefined rather than large.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engram_interp.capture.ablations import (
    KINDS,
    MEANING,
    Kind,
    Means,
    Target,
    changes,
    means_for,
    sources,
    target_of,
)
from engram_interp.capture.encode import Encoded
from engram_interp.capture.hits import STRATA, strata_of
from engram_interp.capture.record import record
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data import probes as packaged
from engram_interp.data.probes import ProbeSet
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import MOST_UNDEFINED, group_weights, interval
from engram_interp.probe_scores import ARMS, asked, partners
from engram_interp.provenance import describe
from engram_interp.results import RetainedPerformance

__all__ = ["retained"]

_ENDS = ("", "_low", "_high")


def retained(
    model: SubjectModel,
    probes: ProbeSet | Sequence[ProbeSet] | None = None,
    *,
    kinds: Sequence[Kind] | None = None,
    baseline: SubjectModel | None = None,
    layers: Sequence[int] | None = None,
    n_swaps: int = 4,
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
    reference: Any = None,
) -> RetainedPerformance:
    """Scores of a model on probes, intact and with its memory ablated, corrected for chance.

    A choice scores by how much the prompt raises its log p, summed over its tokens: log p(choice | prompt) -
    log p(choice | separator alone), for reading log p(choice | passage, question) - log p(choice | question).
    So a choice that is short or frequent anywhere wins nothing by it. A probe counts 1 where the right choice
    scores highest, 1 / k where k are equal there; its chance is 1 / number of choices. That a guess scores
    so is measured too: the intact model answers after other probes' prompts. Probes are sorted by how often
    training saw the n-gram that ends their prompt, the longest the memory reads there: by its own count
    where that is kept, else by its rows' hits, the smallest over layers (`capture.hits.strata_of`).

    Args:
        model: A model with a memory.
        probes: One set or several; None for the packaged three.
        kinds: Ablations; None for all that the model allows (`ngram_swap` never). Why another was left out
            stands in the result's `left_out`.
        baseline: A matched model without memory, scored on the same probes.
        layers: Memory layers, counted from 0; None for all.
        n_swaps: Times that prompts are swapped among the probes of a set to measure chance; 0 for none.
        n_boot: Bootstrap samples over probes; intervals are 95 %.
        seed: Of the controls, of what the kinds draw, and of the bootstrap.
        batch_size: Choices per forward pass, mixed over probes; results do not depend on it.
        reference: Texts whose mean gate `gate_mean` sets; None for the first 16 packaged passages.

    Returns:
        Per probe set, stratum and kind: score, retained performance and the mean change of how much the
        prompt raises the right choice's log p, each beside the random control of the same size; and the
        intact, chance and baseline scores.

    Raises:
        InputError: If the model has no memory, a kind does not apply, a probe does not fit the context, or
            the model has no separator for probes that need one.
    """
    sets = _sets(probes)
    targets = {kind: target_of(model, kind, layers=layers) for kind in _kinds(kinds)}
    means = means_for(model, list(targets), reference=reference)
    left_out = {} if kinds is not None else _impossible(model, targets, means=means, seed=seed)
    targets = {kind: target for kind, target in targets.items() if kind not in left_out}
    chosen = tuple(targets)
    variables = _empty(len(sets), len(chosen))
    described: Encoded | None = None
    every = [asked(model, one, seed=seed) for one in sets]  # what does not fit is found before any run
    counted, unmeasured = list[str](), list[str]()
    for at, (one, questions) in enumerate(zip(sets, every, strict=True)):
        described = described or questions.encoded
        scores = questions.score(model, targets, means=means, batch_size=batch_size, seed=seed)
        beside = None
        if baseline is not None:
            beside = asked(baseline, one, seed=seed).score(baseline, {}, batch_size=batch_size, seed=seed)
        luck, reason = _by_luck(model, one, n_swaps=n_swaps, batch_size=batch_size, seed=seed)
        unmeasured += [reason] if reason else []
        which, by = _strata(model, one)
        counted += [by] if by else []
        for number in range(len(STRATA) + 1):
            inside = np.ones(len(one), bool) if number == 0 else which == number - 1
            chance = np.array([1 / len(p.choices) for p in one.probes])[inside]
            variables["n_items"][at, number] = len(chance)
            if len(chance) == 0:
                continue
            variables["chance"][at, number] = chance.mean()
            picked = {key: value[inside] for key, value in scores.items()}
            if beside is not None:
                picked["baseline", ""] = beside["intact", ""][inside]
            picked["swapped", ""] = luck[inside]
            weights = group_weights(len(chance), n_boot, seed)
            _fill(variables, picked, chance, weights, at=(at, number), kinds=chosen)
    assert described is not None
    return RetainedPerformance.from_arrays(
        coords={"probe_set": [s.name for s in sets], "stratum": ["all", *STRATA], "kind": list(chosen)},
        variables=variables,
        provenance=describe(model, described, seed=seed)
        | sources(model, chosen, reference=reference)
        | {
            "score": "log p(choice | prompt) - log p(choice | bare prompt, or separator alone), nats",
            "baseline": "none" if baseline is None else baseline.name,
            "strata": "; ".join(dict.fromkeys(counted)) or "not known",
            "n_swaps": n_swaps,
            "n_samples": sum(map(len, sets)),
            "n_documents": sum(map(len, sets)),
            "n_boot": n_boot,
            "layers": "all" if layers is None else ", ".join(map(str, layers)),
            "kinds": "; ".join(f"{kind}: {MEANING[kind]}" for kind in chosen),
            "left_out": "; ".join(f"{kind}: {reason}" for kind, reason in left_out.items()) or "none",
        },
        missing=_missing(variables, paired=baseline is not None, unmeasured=unmeasured),
    )


def _missing(variables: Mapping[str, Any], *, paired: bool, unmeasured: list[str]) -> dict[str, str]:
    reasons = dict[str, str]()
    if not paired:
        names = (name for name in variables if name.startswith("baseline"))
        reasons |= dict.fromkeys(names, "no baseline was given")
    if unmeasured:
        reasons |= {f"swapped_score{end}": unmeasured[0] for end in _ENDS}
    return reasons


def _by_luck(
    model: SubjectModel, probes: ProbeSet, *, n_swaps: int, batch_size: int, seed: int
) -> tuple[np.ndarray, str]:
    """How far the right choice wins after another probe's prompt `[probe, 1]`, or why that is not known."""
    drawn, reason = list[np.ndarray](), "" if n_swaps else "no prompts were swapped"
    for number in range(n_swaps):
        others = partners(probes, seed=seed + number)
        if others is None:
            reason = "one probe has no other's prompt to be asked after"
            break
        try:
            questions = asked(model, probes, seed=seed, prompts_of=others)
        except InputError as cause:
            reason = f"prompts cannot be swapped: {cause}".rstrip(".")
            break
        drawn.append(questions.score(model, {}, batch_size=batch_size, seed=seed)["intact", ""][:, :1])
    return (np.full((len(probes), 1), np.nan), reason) if reason else (np.mean(drawn, axis=0), "")


def _sets(probes: ProbeSet | Sequence[ProbeSet] | None) -> list[ProbeSet]:
    if probes is None:
        return [packaged.load(kind) for kind in packaged.KINDS]
    sets = [probes] if isinstance(probes, ProbeSet) else list(probes)
    if not sets or not all(isinstance(one, ProbeSet) for one in sets):
        raise InputError(
            "probes wants one probe set or a list of them: data.probes.load('facts'), or "
            "data.probes.from_file(path, kind='facts')."
        )
    return sets


def _kinds(kinds: Sequence[Kind] | None) -> tuple[Kind, ...]:
    if kinds is None:
        return tuple(kind for kind in KINDS if kind != "ngram_swap")
    if isinstance(kinds, str) or not kinds or "ngram_swap" in kinds:
        raise InputError(
            f"kinds wants a list of ablations other than ngram_swap ({', '.join(KINDS)}), got {kinds!r}."
        )
    return tuple(kinds)


def _impossible(
    model: SubjectModel, targets: dict[Kind, Target], *, means: Means, seed: int
) -> dict[Kind, str]:
    """Why a kind cannot be had of this model, by kind."""
    found = dict[Kind, str]()
    for kind, target in targets.items():
        try:
            changes(model, kind, target, seed=seed, means=means)
        except InputError as cause:
            found[kind] = str(cause).rstrip(".")
    return found


def _strata(model: SubjectModel, probes: ProbeSet) -> tuple[np.ndarray, str]:
    """Index of each probe's stratum, the lowest over layers, -1 where it is not known; and by which count."""
    sites = [f"blocks.{layer}.engram.hook_rows" for layer in model.memory_layers]
    ids = [model.to_tokens(probe.prompt)[0].tolist() for probe in probes.probes]
    rec = record(model, ids, sites=sites, logits=False)
    found, by = strata_of(model, rec.encoded, [rec[site] for site in sites])
    last = rec.mask.sum(1).numpy() - 1
    return found.min(0)[np.arange(len(last)), last], by


def _empty(n_sets: int, n_kinds: int) -> dict[str, np.ndarray]:
    cells = (n_sets, len(STRATA) + 1)
    names: dict[str, tuple[int, ...]] = {
        "intact_score": cells,
        "swapped_score": cells,
        "baseline_score": cells,
        "baseline_retained": cells,
    }
    for arm in ARMS:
        names |= {f"{arm}{n}": (*cells, n_kinds) for n in ("score", "retained", "delta_log_p")}
    found = {f"{name}{end}": np.full(shape, np.nan) for name, shape in names.items() for end in _ENDS}
    return found | {"n_items": np.zeros(cells, np.int64), "chance": np.full(cells, np.nan)}


def _fill(
    variables: dict[str, np.ndarray],
    scores: dict[tuple[str, str], np.ndarray],
    chance: np.ndarray,
    weights: np.ndarray,
    *,
    at: tuple[int, int],
    kinds: Sequence[Kind],
) -> None:
    """Write one probe set's and stratum's scores, ratios and changes, with their intervals, into place."""
    ones = np.ones((1, len(chance)))

    def put(name: str, index: tuple[int, ...], statistic: Any) -> None:
        drawn = statistic(weights)
        low, high = interval(drawn, n_groups=len(chance))
        value = statistic(ones)[0]
        undefined = np.isnan(drawn).mean() > MOST_UNDEFINED
        for end, part in zip(_ENDS, (np.nan if undefined else value, low, high), strict=True):
            variables[f"{name}{end}"][index] = part

    def mean_of(values: np.ndarray) -> Any:
        return lambda w: w @ values / w.sum(1)

    intact = scores["intact", ""]

    def ratio_of(values: np.ndarray) -> Any:
        def ratio(w: np.ndarray) -> np.ndarray:
            above, left = w @ (intact[:, 0] - chance), w @ (values - chance)
            return np.where(above > 0, left / np.where(above > 0, above, 1.0), np.nan)

        return ratio

    put("intact_score", at, mean_of(intact[:, 0]))
    put("swapped_score", at, mean_of(scores["swapped", ""][:, 0]))
    if ("baseline", "") in scores:
        put("baseline_score", at, mean_of(scores["baseline", ""][:, 0]))
        put("baseline_retained", at, ratio_of(scores["baseline", ""][:, 0]))
    for index, kind in enumerate(kinds):
        for arm in ARMS:
            values = scores[kind, arm]
            put(f"{arm}score", (*at, index), mean_of(values[:, 0]))
            put(f"{arm}retained", (*at, index), ratio_of(values[:, 0]))
            put(f"{arm}delta_log_p", (*at, index), mean_of(values[:, 1] - intact[:, 1]))

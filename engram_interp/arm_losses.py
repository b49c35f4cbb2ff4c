"""Losses of trained arms on the same held-out text, from their saved weights, beside what a seed does."""

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt32

from engram_interp.arms import Arms, Run, recorded_of
from engram_interp.capture.hits import STRATA
from engram_interp.data.documents import check_text, documents, text_digest
from engram_interp.data.packing import encode_stream
from engram_interp.data.text_facts import refuse_mixed_texts, refuse_trained_texts
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import MIN_GROUPS, group_weights, interval
from engram_interp.model.training.evaluate import held_out_loss
from engram_interp.model.transformer import HookedEngramTransformer
from engram_interp.results.arm_losses import ArmLosses

__all__ = ["REFERENCES", "join", "losses", "packaged", "told"]

REFERENCES = ("dense", "moe", "engram", "moe-engram")
"""Arms that the others are compared with: the baselines, and the plain memory that variants change."""

_PACKAGED = Path(str(files("engram_interp") / "assets" / "arms" / "losses.nc"))


def losses(
    family: Arms,
    texts: Sequence[str | Path],
    *,
    references: Sequence[str] = REFERENCES,
    n_boot: int = 1000,
    seed: int = 0,
    on_run: Callable[[str], None] = lambda _: None,
) -> ArmLosses:
    """Held-out losses of every run from its saved weights, paired token by token.

    Args:
        family: Finished runs of one vocabulary and context, trained on the same text.
        texts: Held-out text files, plain or .xz, documents ended by lines ``<|endoftext|>``.
        references: Arms to compare with; those that the family lacks are left out.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the bootstrap.
        on_run: Called with the name of every run before it is measured.

    Returns:
        Losses as ``engram-interp evaluate`` gives them; differences to every reference arm's run of the same
        seed, or else of its lowest; the largest difference between an arm's seeds; what each run recorded
        of itself: its own loss, losses by context count, curve, cost and time. With fewer than 20 documents
        there are no intervals.

    Raises:
        InputError: If a text is missing, shorter than a window or one that a run was trained on, no
            reference is there, the runs differ in training text, vocabulary or context, or a run's weights
            are not there.
    """
    for path in texts:
        check_text(path)
    runs = [run for seeds in family.runs.values() for run in seeds.values()]
    _chosen([run.arm for run in runs], references, where=family.where)
    trained = {run.name: run.training for run in runs}
    refuse_mixed_texts(trained)
    refuse_trained_texts(trained, texts)
    length, owner, measured = _measure(runs, texts, on_run)
    facts = {
        "family": family.where,
        "text_files": ", ".join(Path(path).name for path in texts),
        "text_digest": text_digest(texts),
        "training_text_digest": ", ".join(
            dict.fromkeys(str(run.training.get("text_sha256", "unknown")) for run in runs)
        ),
        "context": length,
        "torch": str(torch.__version__),
    }
    recorded = {
        "arm": [run.arm for run in runs],
        "seed": [run.seed for run in runs],
        "digest": [digest for digest, _ in measured],
        "document_loss": np.stack([sums for _, sums in measured]),
    } | recorded_of(runs)
    return _assembled(recorded, np.bincount(owner), facts, references=references, n_boot=n_boot, seed=seed)


def packaged() -> ArmLosses:
    """The losses of this project's own arms, as `losses` found them; their weights are not in the package.

    Raises:
        InputError: If the package holds none.
    """
    if not _PACKAGED.is_file():
        raise InputError("The package holds no losses of arms; give the folder of a family of your own.")
    return ArmLosses.load(_PACKAGED)


def told(
    family: Arms, *, text: str | Path | None = None, saved: str | Path | None = None, n_boot: int = 1000
) -> ArmLosses | None:
    """The losses to read a family's arms from: saved ones, measured now, or those in the package.

    Args:
        family: Whose.
        text: Held-out text to measure them on.
        saved: What `losses` saved of them earlier; comes first.
        n_boot: Bootstrap samples where they are measured now.

    Returns:
        The losses; None for a family of one's own without either.

    Raises:
        InputError: As `losses`.
    """
    if saved is not None:
        return ArmLosses.load(saved)
    if family.bundled:
        return packaged() if _PACKAGED.is_file() else None
    return None if text is None else losses(family, [text], n_boot=n_boot)


def join(
    results: Sequence[ArmLosses],
    *,
    family: str | None = None,
    references: Sequence[str] = REFERENCES,
    n_boot: int = 1000,
    seed: int = 0,
) -> ArmLosses:
    """Losses that were measured apart as one result, from the losses by document that each keeps.

    Args:
        results: Of runs on the same held-out text; where a run occurs twice, the later one counts.
        family: What they are together, as a phrase; by default what the last of them is.
        references: Arms to compare with.
        n_boot: Bootstrap samples over documents.
        seed: Of the bootstrap.

    Raises:
        InputError: If there is none, the texts or training texts differ, or no reference is there.
    """
    if not results:
        raise InputError("join wants at least one result of losses, got none.")
    same = ("text_digest", "training_text_digest", "context")
    for result in results[1:]:
        apart = [name for name in same if result.data.attrs[name] != results[0].data.attrs[name]]
        if apart or not result.data["document_tokens"].equals(results[0].data["document_tokens"]):
            raise InputError(
                "Losses can be joined where the texts and their tokens are the same; "
                f"{', '.join(apart) or 'tokens'} differ."
            )
    last = {run: result.data.sel(run=run) for result in results for run in result.data["run"].values.tolist()}
    rows = [last[name] for name in sorted(last)]
    width = max(row.sizes["evaluation"] for row in rows)
    recorded: dict[str, Any] = {}
    for name in ("arm", "seed", "digest", "document_loss", *_RECORDED):
        cells = [row[name].values for row in rows]
        if name in ("curve_step", "curve_loss"):
            cells = [np.pad(cell, (0, width - len(cell)), constant_values=np.nan) for cell in cells]
        recorded[name] = np.stack(cells)
    attrs = results[-1].data.attrs
    facts = {name: attrs[name] for name in ("family", "text_files", *same, "torch")}
    facts |= {"family": family} if family else {}
    sizes = results[0].data["document_tokens"].values
    return _assembled(recorded, sizes, facts, references=references, n_boot=n_boot, seed=seed)


def _chosen(arms: Sequence[str], references: Sequence[str], *, where: str) -> list[str]:
    chosen = [arm for arm in references if arm in arms]
    if not chosen:
        raise InputError(f"losses wants one of {', '.join(references)} in {where}; it has none of them.")
    return chosen


def _assembled(
    recorded: Mapping[str, Any],
    sizes: Int64[np.ndarray, " document"],
    facts: Mapping[str, Any],
    *,
    references: Sequence[str],
    n_boot: int,
    seed: int,
) -> ArmLosses:
    """The result that follows from every run's losses by document."""
    arms, seeds = [str(arm) for arm in recorded["arm"]], [int(number) for number in recorded["seed"]]
    chosen = _chosen(arms, references, where=str(facts["family"]))
    sums = np.asarray(recorded["document_loss"], float)
    weights = group_weights(len(sizes), n_boot, seed)
    drawn = (weights @ sums.T) / (weights @ sizes)[:, None]  # [boot, run]
    value = sums.sum(1) / sizes.sum()
    low, high = interval(drawn, n_groups=len(sizes))
    against = _partners(arms, seeds, chosen)
    alone, paired = against < 0, np.where(against < 0, 0, against)
    ends = interval(drawn[:, :, None] - drawn[:, paired], n_groups=len(sizes))
    own = [value[[arm == other for other in arms]] for arm in arms]
    variables: dict[str, Any] = dict(recorded) | {
        "document_tokens": sizes,
        "loss": value,
        "loss_low": low,
        "loss_high": high,
        "difference": np.where(alone, np.nan, value[:, None] - value[paired]),
        "difference_low": np.where(alone, np.nan, ends[0]),
        "difference_high": np.where(alone, np.nan, ends[1]),
        "reference_seed": np.where(alone, -1, np.array(seeds)[paired]),
        "spread": np.array([np.ptp(each) if len(each) > 1 else np.nan for each in own]),
    }
    itself = "no run is compared with itself"
    few = len(sizes) < MIN_GROUPS
    short = f"an interval wants at least {MIN_GROUPS} documents to resample, got {len(sizes)}"
    missing = {
        "loss_low": short,
        "loss_high": short,
        "difference": itself,
        "difference_low": short if few else itself,
        "difference_high": short if few else itself,
        "spread": "the arm was trained from one seed",
        "stratum_loss": "no held-out token has such a context, or the run recorded none",
    }
    undefined = [n for n, v in variables.items() if n in _FLOATS and np.isnan(np.asarray(v, float)).any()]
    return ArmLosses.from_arrays(
        coords={
            "run": [f"{arm} seed {number}" for arm, number in zip(arms, seeds, strict=True)],
            "reference": chosen,
            "stratum": list(STRATA),
        },
        variables=variables,
        provenance={
            **facts,
            "n_documents": len(sizes),
            "n_samples": int(sizes.sum()),
            "n_boot": n_boot,
            "seed": seed,
            "estimator": "mean over tokens; intervals resample documents; differences are paired by token",
        },
        missing={name: missing.get(name, "the run recorded no more") for name in undefined},
    )


_RECORDED = (
    "recorded_loss",
    "seconds",
    "stratum_loss",
    "stratum_tokens",
    "curve_step",
    "curve_loss",
    "parameters",
    "table_parameters",
    "flops_per_token",
    "trained_tokens",
)
_FLOATS = frozenset(name for name, one in ArmLosses.schema.variables.items() if one.dtype == "float")


def _measure(
    runs: Sequence[Run], texts: Sequence[str | Path], on_run: Callable[[str], None]
) -> tuple[int, Int64[np.ndarray, " token"], list[tuple[str, np.ndarray]]]:
    """Context length, the document of every predicted token, and each run's digest and losses by document."""
    stream: UInt32[np.ndarray, " token"] | None = None
    vocabulary, length, owner = "", 0, np.zeros(0, np.int64)
    measured: list[tuple[str, np.ndarray]] = []
    for run in runs:
        on_run(run.name)
        subject = run.load()
        module, separator = subject.module, subject.separator_id
        if not isinstance(module, HookedEngramTransformer) or separator is None:
            raise InputError(f"{run.name} is of family {subject.family}; losses reads native models.")
        if stream is None:
            vocabulary, length = subject.tokenizer.to_str(), module.cfg.n_ctx
            stream = encode_stream(documents(texts), subject.tokenizer, separator_id=separator)
            predicted = (len(stream) - 1) // length * length
            owner = np.cumsum(stream == separator)[1 : predicted + 1]
            owner = owner - owner[:1]
        if subject.tokenizer.to_str() != vocabulary or module.cfg.n_ctx != length:
            raise InputError(
                f"{run.name} has another tokenizer or context than {runs[0].name}; their losses a token "
                "cannot be compared. Give folders of one family."
            )
        found = held_out_loss(module, stream)
        sums = np.bincount(owner, weights=found.per_token.ravel())
        measured.append((subject.digest or "unknown", sums))
    return length, owner, measured


def _partners(
    arms: Sequence[str], seeds: Sequence[int], chosen: Sequence[str]
) -> Int64[np.ndarray, "run reference"]:
    """Index of the run that each is compared with; -1 for a reference's own first run."""

    def partner(run: int, reference: str) -> int:
        own = sorted(
            (seed, at) for at, (arm, seed) in enumerate(zip(arms, seeds, strict=True)) if arm == reference
        )
        first = own[0][1]
        other = first if arms[run] == reference else dict(own).get(seeds[run], first)
        return -1 if other == run else other

    return np.array([[partner(run, reference) for reference in chosen] for run in range(len(arms))])

"""Losses of trained arms on the same held-out text, from their saved weights, beside what a seed does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt32

from engram_interp.arms import Arms, Run
from engram_interp.capture.hits import STRATA
from engram_interp.data.documents import check_text, documents, text_digest
from engram_interp.data.packing import encode_stream
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import MIN_GROUPS, group_weights, interval
from engram_interp.model.training.evaluate import held_out_loss
from engram_interp.model.transformer import HookedEngramTransformer
from engram_interp.results.arm_losses import ArmLosses

__all__ = ["REFERENCES", "losses"]

REFERENCES = ("dense", "moe", "engram", "moe-engram")
"""Arms that the others are compared with: the baselines, and the plain memory that variants change."""


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """One run's loss by document, and what it stands on."""

    run: Run
    digest: str
    per_document: Float[np.ndarray, " document"]


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
        family: Finished runs of one vocabulary and context.
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
        InputError: If a text is missing or shorter than a window, no reference is there, the runs differ in
            vocabulary or context, or a run's weights are not there.
    """
    for path in texts:
        check_text(path)
    chosen = [arm for arm in references if arm in family]
    if not chosen:
        raise InputError(
            f"losses wants one of {', '.join(references)} in {family.where}; it has none of them."
        )
    runs = [run for seeds in family.runs.values() for run in seeds.values()]
    whole, owner, measured = _measure(runs, texts, on_run)
    sizes = np.bincount(owner).astype(float)
    sums = np.stack([one.per_document for one in measured])
    weights = group_weights(len(sizes), n_boot, seed)
    drawn = (weights @ sums.T) / (weights @ sizes)[:, None]  # [boot, run]
    value = sums.sum(1) / sizes.sum()
    low, high = interval(drawn, n_groups=len(sizes))
    against = _partners(runs, family, chosen)
    paired = np.where(against < 0, 0, against)
    difference = np.where(against < 0, np.nan, value[:, None] - value[paired])
    ends = interval(drawn[:, :, None] - drawn[:, paired], n_groups=len(sizes))
    spread = [np.ptp(value[[r.arm == run.arm for r in runs]]) or np.nan for run in runs]
    variables: dict[str, Any] = {
        "arm": [run.arm for run in runs],
        "seed": [run.seed for run in runs],
        "digest": [one.digest for one in measured],
        "loss": value,
        "loss_low": low,
        "loss_high": high,
        "difference": difference,
        "difference_low": np.where(against < 0, np.nan, ends[0]),
        "difference_high": np.where(against < 0, np.nan, ends[1]),
        "reference_seed": np.where(against < 0, -1, np.array([run.seed for run in runs])[paired]),
        "spread": np.array(spread, float),
    } | _recorded(runs)
    missing = {
        "difference": "no run is compared with itself",
        "spread": "the arm was trained from one seed",
        "stratum_loss": "no held-out token has such a context, or the run recorded none",
        "stratum_tokens": "the run recorded none",
        "curve_step": "the run was evaluated less often",
        "curve_loss": "the run was evaluated less often",
        "recorded_loss": "the run recorded none",
        "seconds": "the run recorded none",
    }
    short = f"an interval wants at least {MIN_GROUPS} documents to resample, got {len(sizes)}"
    for name in ("loss_low", "loss_high", "difference_low", "difference_high"):
        few = len(sizes) < MIN_GROUPS
        missing[name] = short if few else missing["difference"]
    return ArmLosses.from_arrays(
        coords={
            "run": [f"{run.arm} seed {run.seed}" for run in runs],
            "reference": chosen,
            "stratum": list(STRATA),
        },
        variables=variables,
        provenance={
            "family": family.where,
            "unfinished": ", ".join(family.unfinished) or "none",
            "text_files": ", ".join(Path(path).name for path in texts),
            "text_digest": text_digest(texts),
            "n_documents": len(sizes),
            "n_samples": int(sizes.sum()),
            "training_text_digest": ", ".join(
                dict.fromkeys(str(r.training.get("text_sha256", "unknown")) for r in runs)
            ),
            "context": whole,
            "n_boot": n_boot,
            "seed": seed,
            "torch": str(torch.__version__),
            "estimator": "mean over tokens; intervals resample documents; differences are paired by token",
        },
        missing={n: why for n, why in missing.items() if np.isnan(np.asarray(variables[n], float)).any()},
    )


def _measure(
    runs: Sequence[Run], texts: Sequence[str | Path], on_run: Callable[[str], None]
) -> tuple[int, Int64[np.ndarray, " token"], list[_Measured]]:
    """Context length, the document of every predicted token, and each run's summed losses by document."""
    stream: UInt32[np.ndarray, " token"] | None = None
    vocabulary, length, owner = "", 0, np.zeros(0, np.int64)
    measured: list[_Measured] = []
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
        measured.append(_Measured(run=run, digest=subject.digest or "unknown", per_document=sums))
    return length, owner, measured


def _partners(runs: Sequence[Run], family: Arms, chosen: Sequence[str]) -> Int64[np.ndarray, "run reference"]:
    """Index of the run that each is compared with; -1 for a reference's own first run."""
    at = {run.name: index for index, run in enumerate(runs)}

    def partner(run: Run, arm: str) -> int:
        first = family.first(arm)
        other = first if run.arm == arm else family.runs[arm].get(run.seed, first)
        return -1 if other is run else at[other.name]

    return np.array([[partner(run, arm) for arm in chosen] for run in runs])


def _recorded(runs: Sequence[Run]) -> dict[str, Any]:
    """What training.json and log.jsonl say of every run."""
    logs = [[line for line in run.log() if line.get("valid_loss") is not None] for run in runs]
    width = max([len(log) for log in logs] + [1])
    curve = np.full((2, len(runs), width), np.nan)
    for index, log in enumerate(logs):
        curve[:, index, : len(log)] = [[line[key] for line in log] for key in ("step", "valid_loss")]
    strata = [[_stratum(run.training, name) for name in STRATA] for run in runs]
    told: dict[str, Any] = {
        name: [int(run.training.get(name, 0)) for run in runs]
        for name in ("parameters", "table_parameters", "flops_per_token", "trained_tokens")
    }
    return told | {
        "recorded_loss": [float(run.training.get("valid_loss", np.nan)) for run in runs],
        "seconds": [float(run.training.get("seconds", np.nan)) for run in runs],
        "stratum_loss": [[float(cell.get("loss") or np.nan) for cell in row] for row in strata],
        "stratum_tokens": [[float(cell.get("tokens", np.nan)) for cell in row] for row in strata],
        "curve_step": curve[0],
        "curve_loss": curve[1],
    }


def _stratum(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    cell: Mapping[str, Any] = facts.get("valid_strata", {}).get(f"{name} in training", {})
    return cell

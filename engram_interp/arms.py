"""The trained arms of a comparison: those that ``engram-interp family`` wrote, or the packaged pair."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engram_interp import pairs
from engram_interp.capture.hits import STRATA
from engram_interp.checkpoints.files import load_tokenizer, read_json
from engram_interp.data import fiction
from engram_interp.data.documents import documents, text_digest
from engram_interp.errors import DamagedFileError, InputError

if TYPE_CHECKING:
    from engram_interp.checkpoints import SubjectModel

__all__ = ["Arms", "Run", "bundled", "load", "recorded_of"]

_SEED = re.compile(r"(?P<name>.+)-seed(?P<seed>\d+)")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished training run.

    Attributes:
        arm: What was trained: the recipe's name without the family's ("engram" of nano-engram).
        seed: Of the initial weights.
        name: What results call the model.
        folder: Where it lies.
        training: Its training.json: recipe, losses, costs, text digests.
    """

    arm: str
    seed: int
    name: str
    folder: Path = field(repr=False)
    training: Mapping[str, Any] = field(repr=False)

    @property
    def loss(self) -> float:
        """Loss on the text that the run held out, nats a token."""
        return float(self.training["valid_loss"])

    @property
    def fiction(self) -> int | None:
        """Seed of the invented facts (`data.fiction`) in its training text; None for none."""
        seed = self.training["recipe"].get("fiction")
        return None if seed is None else int(seed)

    def load(self) -> "SubjectModel":
        """The model, on the CPU.

        Raises:
            InputError: If only the run's record is here, not its weights.
        """
        from engram_interp.checkpoints import load_model

        if not (self.folder / "config.json").is_file():
            raise InputError(
                f"{self.name} is a record: its weights are not there. Train it again from the recipe in "
                f"{self.folder / 'training.json'}, which engram-interp family does in about "
                f"{float(self.training.get('seconds', 0)) / 60:.0f} minutes of one core."
            )
        return load_model(self.folder, name=self.name)

    def documents(self, texts: Sequence[str | Path]) -> Iterator[str]:
        """The documents that the run was trained on, invented facts first; the last one may have been cut.

        Args:
            texts: The training text's files, in the order that they were given in.

        Raises:
            InputError: If they are not the text that the run was trained on.
        """
        if text_digest(texts) != self.training["text_sha256"]:
            names = ", ".join(self.training.get("text_files", ())) or "other files"
            raise InputError(f"{self.name} was not trained on this text but on {names}; give those.")
        tokenizer, left = load_tokenizer(self.folder / "tokenizer.json"), int(self.training["stream_tokens"])
        invented = () if self.fiction is None else fiction.documents(self.fiction)
        for document in chain(invented, documents(texts)):
            if left <= 0:
                return
            left -= 1 + len(tokenizer.encode(document, add_special_tokens=False).ids)
            yield document

    def log(self) -> list[dict[str, Any]]:
        """One line an evaluation: step, losses, gates; empty where no log was kept.

        Raises:
            DamagedFileError: If a line cannot be read.
        """
        path = self.folder / "log.jsonl"
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            return [json.loads(line) for line in text.splitlines()]
        except ValueError as cause:
            raise DamagedFileError(f"{path} cannot be read as JSON lines; copy it again.") from cause

    def kept(self) -> dict[int, Path]:
        """The models kept along the way, by step; `load_model` opens each."""
        folders = sorted((self.folder / "checkpoints").glob("step-*/config.json"))
        return {int(path.parent.name.removeprefix("step-")): path.parent for path in folders}

    def logged(self) -> tuple[list[float], list[float]]:
        """Steps of the log's evaluations, and losses on the first held-out windows (`loss` is over all)."""
        lines = [line for line in self.log() if line.get("valid_loss") is not None]
        steps, losses = ([float(line[key]) for line in lines] for key in ("step", "valid_loss"))
        return steps, losses

    def kept_losses(self) -> dict[int, float]:
        """Logged loss (`logged`) at the step of every kept model, between the evaluations around it."""
        steps, losses = self.logged()
        return {step: float(np.interp(step, steps, losses)) for step in self.kept() if steps}

    def around(self, other: "Run") -> list[tuple[int, float, "SubjectModel"]]:
        """The kept models between which this run's logged loss passed the one that another run ended at.

        Returns:
            Step, loss less the other's in nats, and the model: the last one that predicts worse, then the
            first that predicts no worse. Only one of them where all kept models lie on one side.

        Raises:
            InputError: If this run kept no models along the way, the other has no log, or they held out
                different texts.
        """
        from engram_interp.checkpoints import load_model

        if self.training.get("valid_sha256") != other.training.get("valid_sha256"):
            raise InputError(
                f"{self.name} and {other.name} held out different texts; give runs of one family."
            )
        losses, (_, ends) = self.kept_losses(), other.logged()
        if not losses:
            raise InputError(f"{self.name} kept no models along the way; train it with keep of at least 1.")
        if not ends:
            raise InputError(f"{other.name} has no log of its losses; copy its log.jsonl beside its weights.")
        apart = {step: loss - ends[-1] for step, loss in sorted(losses.items())}
        first = next((step for step, less in apart.items() if less <= 0), None)
        worse = [step for step in apart if first is None or step < first]
        chosen = [*worse[-1:], *([] if first is None else [first])]
        kept = self.kept()
        return [
            (step, apart[step], load_model(kept[step], name=f"{self.name} at step {step:,}"))
            for step in chosen
        ]


@dataclass(frozen=True, kw_only=True)
class Arms:
    """Finished runs by arm and seed.

    Attributes:
        where: What they are, as a phrase: "the bundled pair wiki-nano", "the family nano".
        runs: By arm, by seed.
        unfinished: Names of runs that have begun and not ended; they are not among `runs`.
        bundled: Whether it is a packaged pair.
    """

    where: str
    runs: Mapping[str, Mapping[int, Run]]
    unfinished: tuple[str, ...] = ()
    bundled: bool = False

    def __contains__(self, arm: str) -> bool:
        return arm in self.runs

    def first(self, arm: str) -> Run:
        """The run of an arm from the lowest seed.

        Raises:
            InputError: If the arm is not there; says whether it is unfinished.
        """
        if arm not in self.runs:
            raise InputError(f"{self.lacking(arm)}; {self.where} has {', '.join(self.runs) or 'no arm'}.")
        return self.runs[arm][min(self.runs[arm])]

    def pairs(self, arm: str, other: str) -> list[tuple[Run, Run]]:
        """The runs of two arms that began from the same seed, by seed; empty where an arm is not there."""
        one, two = self.runs.get(arm, {}), self.runs.get(other, {})
        return [(one[seed], two[seed]) for seed in sorted(one.keys() & two.keys())]

    def another(self, run: Run) -> Run | None:
        """The same arm from its lowest other seed, to show what a seed does; None where it has only one."""
        seeds = [seed for seed in sorted(self.runs[run.arm]) if seed != run.seed]
        return self.runs[run.arm][seeds[0]] if seeds else None

    def lacking(self, *arms: str) -> str:
        """Which of `arms` are not there, as part of a sentence; empty where all are.

        >>> Arms(where="the family nano", runs={}, unfinished=("nano-moe-seed0",)).lacking("moe", "open")
        'arm moe is unfinished, arm open is missing'
        """
        begun = {_split(name)[0] for name in self.unfinished}
        absent = [arm for arm in arms if arm not in self.runs]
        return ", ".join(f"arm {a} is {'unfinished' if a in begun else 'missing'}" for a in absent)

    def scope(self, *arms: str) -> str:
        """On what a verdict stands, as part of a sentence: "on the family nano, 2 seeds"."""
        counts = [len(self.runs[arm]) for arm in arms if arm in self.runs] or [1]
        seeds = "one training run of each" if min(counts) == 1 else f"{min(counts)} seeds"
        return f"on {self.where}, {seeds}"


def load(folder: str | Path) -> Arms:
    """The finished runs in a folder of ``engram-interp family``.

    Raises:
        InputError: If there is no such folder, no run in it is finished, or two families lie in it.
        DamagedFileError: If a training.json cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; give one that engram-interp family has written.")
    runs: dict[str, dict[int, Run]] = {}
    unfinished: list[str] = []
    families = set[str]()
    for mark in sorted(folder.glob("*-seed*/training.json")):
        name = mark.parent.name
        if not _SEED.fullmatch(name):
            continue
        arm, seed = _split(name)
        families.add(name.removesuffix(f"{arm}-seed{seed}"))
        facts = read_json(mark)
        if facts.get("finished"):
            made = Run(arm=arm, seed=seed, name=name, folder=mark.parent, training=facts)
            runs.setdefault(arm, {})[seed] = made
        else:
            unfinished.append(name)
    if len(families) > 1:
        raise InputError(
            f"{folder} holds runs of several families ({', '.join(sorted(families))}); part them."
        )
    if not runs:
        begun = f"; unfinished: {', '.join(unfinished)}" if unfinished else ""
        raise InputError(
            f"{folder} holds no finished run{begun}. Train some: engram-interp family … --out {folder}"
        )
    return Arms(where=f"the family {folder.resolve().name}", runs=runs, unfinished=tuple(unfinished))


def bundled(name: str = "wiki-nano") -> Arms:
    """The packaged pair as two arms of one seed: "engram", and "dense" for its baseline.

    Raises:
        InputError: If there is no such pair.
    """
    pair = pairs.folder(name)
    runs: dict[str, dict[int, Run]] = {}
    for arm, part in (("dense", "baseline"), ("engram", "engram")):
        facts = read_json(pair / part / "training.json")
        seed = int(facts["recipe"]["model"].get("init_seed", 0))
        runs[arm] = {seed: Run(arm=arm, seed=seed, name=f"{name}/{part}", folder=pair / part, training=facts)}
    return Arms(where=f"the bundled pair {name}", runs=runs, bundled=True)


def _split(name: str) -> tuple[str, int]:
    """Arm and seed of a run's name.

    >>> _split("nano-moe-engram-seed1")
    ('moe-engram', 1)
    """
    found = _SEED.fullmatch(name)
    if found is None:
        raise InputError(f"A run's name wants to end in -seedN, got {name!r}.")
    family, _, arm = found["name"].partition("-")
    return arm or family, int(found["seed"])


def recorded_of(runs: Sequence[Run]) -> dict[str, Any]:
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

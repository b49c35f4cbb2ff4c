"""Keep the records of trained arms in the package, not their weights: what each run was, and its losses.

    engram-interp losses runs/nano --text wiki_valid.txt.xz --out losses.nc
    python scripts/package_arms.py --runs runs/nano --losses losses.nc --claims runs/claims

Every finished run's training.json (recipe, text digests, costs, time) and log.jsonl go to ASSETS/arms/RUN,
the losses to losses.nc beside them, joined with those of earlier runs on the same text. A run of the same
name is replaced. Of folders that the scripts in analyses/ wrote, the verdicts go into ASSETS/claims, to those
that verdicts.tar.xz holds, the results they rest on to SCRIPT.tar.xz; those of --pair, of scripts run on the
bundled pair, to those that wiki-nano.tar.xz holds. ASSETS is --out, by default the package's own.
"""

import argparse
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engram_interp import arms
from engram_interp.arm_losses import join
from engram_interp.arms import Run
from engram_interp.checkpoints.files import write_json
from engram_interp.claims import unpacked
from engram_interp.results import ArmLosses, Result, Verdict
from engram_interp.results.storage import replacing

ASSETS = Path("engram_interp/assets")
KEPT_BITS = {"depth": ("hsic", 30), "stitching": ("document_loss", 20)}
"""By kind of result: how the terms by group or by document begin that intervals are drawn from, and their
significant bits, to a part in a billion and in a million. They do not compress; what was measured from them
stays as it was."""
VERDICTS, PAIR = "verdicts.tar.xz", "wiki-nano.tar.xz"


def read_losses(path: Path, runs: Sequence[Run], kept: Path) -> ArmLosses:
    """The losses of all runs, joined with the kept ones."""
    found = ArmLosses.load(path)
    unmeasured = {f"{run.arm} seed {run.seed}" for run in runs} - set(found.data["run"].values.tolist())
    if unmeasured:
        raise SystemExit(f"{path} lacks {', '.join(sorted(unmeasured))}; measure them again")
    family = f"the family {runs[0].name.partition('-')[0]}"  # wherever its runs lay
    return join([*([ArmLosses.load(kept)] if kept.is_file() else []), found], family=family)


def read_verdicts(folder: Path) -> list[Path]:
    """The verdicts that the scripts wrote, each of which opens, and what lies beside it too."""
    verdicts = sorted(folder.glob("*/claim-*.nc"))
    if not verdicts:
        raise SystemExit(f"{folder} holds no SCRIPT/claim-NN.nc; run a script of analyses/ into it first")
    for verdict in verdicts:
        Verdict.load(verdict)
        for path in sorted(verdict.parent.glob("*.nc")):
            Result.load(path)
    return verdicts


def keep_records(runs: Sequence[Run], out: Path) -> None:
    """Write every run's record and log; an old record gives way when the new one is whole."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        made = [Path(folder) / run.name for run in runs]
        for run, place in zip(runs, made, strict=True):
            place.mkdir()
            write_json(place / "training.json", dict(run.training))
            shutil.copy(run.folder / "log.jsonl", place / "log.jsonl")
        for place in made:
            shutil.rmtree(out / place.name, ignore_errors=True)
            place.rename(out / place.name)


def keep_claims(verdicts: Sequence[Path], out: Path) -> None:
    """Add every verdict to those in the package, and its results as an archive of its script's name.

    The results of a claim repeat each other (those of one baseline hold the same reference), which an archive
    that is compressed as a whole holds once. Of `KEPT_BITS` the digits that say nothing are left out.
    """
    for verdict in verdicts:
        with tempfile.TemporaryDirectory() as folder:
            results = [
                shortened(path, Path(folder))
                for path in sorted(verdict.parent.glob("*.nc"))
                if path != verdict
            ]
            pack(results, out / f"{verdict.parent.name}.tar.xz")
    add(verdicts, out / VERDICTS)


def shortened(path: Path, folder: Path) -> Path:
    """A copy of a saved result in `folder`, its variables in `KEPT_BITS` rounded to so many bits."""
    result = Result.load(path)
    data = result.data.copy()
    start, bits = KEPT_BITS.get(result.kind, ("", 0))
    for name in [name for name in data.data_vars if bits and str(name).startswith(start)]:
        data[name] = data[name].copy(data=significant(data[name].values, bits))
    return type(result)(data=data).save(folder / path.name)


def significant(values: npt.NDArray[np.float64], bits: int) -> npt.NDArray[np.float64]:
    """Numbers rounded to so many significant bits, of the 53 that float64 has; what is not finite stays.

    >>> significant(np.array([1.0, 1 / 3, np.nan]), 8).tolist()
    [1.0, 0.333984375, nan]
    """
    mantissa, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits))


def add(verdicts: Sequence[Path], archive: Path) -> None:
    """Put verdicts into an archive, to those of other claims that it holds."""
    if not verdicts:
        return
    with tempfile.TemporaryDirectory() as folder:
        if archive.is_file():
            with tarfile.open(archive) as before:
                before.extractall(folder, filter="data")
        for verdict in verdicts:
            shutil.copy(verdict, folder)
        pack(sorted(Path(folder).iterdir()), archive)


def pack(paths: Sequence[Path], archive: Path) -> None:
    """Write files into one archive, by their names."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with replacing(archive) as temporary, tarfile.open(temporary, "w:xz", preset=9) as kept:
        for path in paths:
            kept.add(path, path.name, filter=_nobody)


def _nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry that says nothing of when, where and by whom it was made."""
    return entry.replace(mtime=0, mode=0o644, uid=0, gid=0, uname="", gname="", deep=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Copy the records and join the losses; nothing is written before all has been read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder of engram-interp family")
    parser.add_argument("--losses", type=Path, required=True, help="what engram-interp losses saved of it")
    parser.add_argument("--claims", type=Path, help="folder of what the scripts in analyses/ wrote")
    parser.add_argument("--pair", type=Path, help="folder of what they wrote of the bundled pair")
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder that arms/ and claims/ are in")
    args = parser.parse_args(arguments)
    runs = [run for seeds in arms.load(args.runs).runs.values() for run in seeds.values()]
    for run in runs:
        if not run.log():
            raise SystemExit(f"{run.folder} holds no log.jsonl; copy it there")
    kept = args.out / "arms" / "losses.nc"
    whole = read_losses(args.losses, runs, kept)
    verdicts = [] if args.claims is None else read_verdicts(args.claims)
    pair = [] if args.pair is None else read_verdicts(args.pair)
    folder = args.out / "claims"
    for archive in (folder / VERDICTS, folder / PAIR):
        if archive.is_file():
            unpacked(archive)
    keep_records(runs, kept.parent)
    whole.save(kept, overwrite=True)
    keep_claims(verdicts, folder)
    add(pair, folder / PAIR)
    print(whole.summary())


if __name__ == "__main__":
    main()

"""Keep the records of trained arms in the package, not their weights: what each run was, and its losses.

    engram-interp losses runs/nano --text wiki_valid.txt.xz --out losses.nc
    python scripts/package_arms.py --runs runs/nano --losses losses.nc --claims runs/claims

Every finished run's training.json (recipe, text digests, costs, time) and log.jsonl go to
engram_interp/assets/arms/RUN, the losses to losses.nc beside them, joined with those of earlier runs on the
same text. A run of the same name is replaced. Of folders that the scripts in analyses/ wrote, the verdicts go
to engram_interp/assets/claims and the results they rest on to folders beside them.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from engram_interp import arms
from engram_interp.arm_losses import join
from engram_interp.checkpoints.files import write_json
from engram_interp.results import ArmLosses, Verdict

KEPT, CLAIMS = Path("engram_interp/assets/arms"), Path("engram_interp/assets/claims")


def package_claims(folder: Path, out: Path) -> None:
    """Copy every verdict, and its results into a folder of its script's name."""
    for verdict in sorted(folder.glob("*/claim-*.nc")):
        Verdict.load(verdict)
        results = out / verdict.parent.name
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir(parents=True)
        for path in sorted(verdict.parent.glob("*.nc")):
            shutil.copy(path, (out if path == verdict else results) / path.name)


def main() -> None:
    """Copy the records and join the losses; nothing is written before all has been read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder of engram-interp family")
    parser.add_argument("--losses", type=Path, required=True, help="what engram-interp losses saved of it")
    parser.add_argument("--claims", type=Path, help="folder of what the scripts in analyses/ wrote")
    parser.add_argument("--out", type=Path, default=KEPT)
    args = parser.parse_args()
    family = arms.load(args.runs)
    found, kept = ArmLosses.load(args.losses), args.out / "losses.nc"
    runs = [run for seeds in family.runs.values() for run in seeds.values()]
    unmeasured = {f"{run.arm} seed {run.seed}" for run in runs} - set(found.data["run"].values.tolist())
    if unmeasured:
        raise SystemExit(f"{args.losses} lacks {', '.join(sorted(unmeasured))}; measure them again")
    whole = join([ArmLosses.load(kept), found]) if kept.is_file() else found
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        for run in runs:
            made = Path(folder) / run.name
            made.mkdir()
            write_json(made / "training.json", dict(run.training))
            shutil.copy(run.folder / "log.jsonl", made / "log.jsonl")
            shutil.rmtree(args.out / run.name, ignore_errors=True)
            made.rename(args.out / run.name)
    whole.save(kept, overwrite=True)
    if args.claims is not None:
        package_claims(args.claims, CLAIMS)
    print(whole.summary())


if __name__ == "__main__":
    main()

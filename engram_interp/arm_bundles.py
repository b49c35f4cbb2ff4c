"""What the claims measured of each trained arm, as bundles that the explorer opens.

The arms' weights are not shipped; what was measured of them is, in one archive a claim. Here it is sorted by
model: one bundle an arm and seed, its parts under the names that the explorer's pages look for.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from engram_interp.errors import DamagedFileError, InputError
from engram_interp.results import Result, archives, write_bundle

PARTS = {
    "depth": "depth",
    "lens_depth": "lens-depth",
    "stitching": "stitching",
    "gate_selectivity": "gate-selectivity",
    "gate_usefulness": "gate-usefulness",
    "retained_performance": "retained",
    "ablation_effect": "ablation",
}
"""By kind of result: the name under which a page looks for it; the first claim that has one gives it."""
ELSEWHERE = ("invented-",)
"""Files whose results are of another question than the page's: invented facts are no probes of the world."""
_CLAIM = re.compile(r"claim_(\d+)_\w+\.tar\.xz")
_FAMILY = re.compile(r"(?P<recipe>nano-[\w-]+)-seed(?P<seed>\d+)(?: at step (?P<step>[\d,]+))?")


def write(folder: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Write one bundle for each arm and seed that the packaged claims measured, and return their folders.

    Args:
        folder: Made if it is not there; bundles are called after the model, ``nano-engram-seed0.engram``.
        overwrite: Whether bundles of these names give way.

    Raises:
        InputError: If one of them is there and `overwrite` is off; nothing is written then.
        DamagedFileError: If the package is not whole.
    """
    folder = Path(folder)
    every = _by_model()
    named = {model: f"{model.replace(' at step ', '-step-').replace(',', '')}.engram" for model in every}
    taken = [name for name in named.values() if (folder / name).exists()]
    if taken and not overwrite:
        raise InputError(
            f"{folder} holds {', '.join(taken)} already; give another folder, or in Python overwrite=True."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_bundle(folder / name, every[model], meta=_meta(model, every[model]), overwrite=overwrite)
        for model, name in named.items()
    ]


def by_model() -> dict[str, dict[str, Result]]:
    """Every packaged result of a trained arm: by its model, then by the name of its part.

    Raises:
        DamagedFileError: If the package is not whole.
    """
    return {
        model: {name: type(result)(data=result.data.copy()) for name, result in parts.items()}
        for model, parts in _by_model().items()
    }


@cache
def _by_model() -> dict[str, dict[str, Result]]:
    found: dict[str, dict[str, Result]] = {}
    for number, name, result in _packaged():
        attrs = result.data.attrs
        model = str(attrs.get("engram") or attrs.get("model") or "")
        if not _FAMILY.fullmatch(model):
            continue
        parts = found.setdefault(model, {})
        part = "" if name.startswith(ELSEWHERE) else PARTS.get(result.kind, "")
        if not part or part in parts:
            part = f"claim {number}: {name}"
        parts[part] = result
    if not found:
        raise DamagedFileError("The package holds no results of arms; install it again.")
    return dict(sorted(found.items()))


def _meta(model: str, parts: Mapping[str, Result]) -> dict[str, object]:
    """What the bundle says of itself; the models only of a run at its end, which one can train again."""
    told = _FAMILY.fullmatch(model)
    assert told is not None
    kept = f", as it was at step {told['step']}" if told["step"] else ""
    meta: dict[str, object] = {
        "name": model,
        "notes": [
            f"What the claims measured of the recipe {told['recipe']}, seed {told['seed']}{kept}. Its "
            f"weights are not shipped; engram-interp family {told['recipe']} --seed {told['seed']} trains "
            "them again."
        ],
    }
    if "depth" in parts and not kept:
        attrs = parts["depth"].data.attrs
        layers = [int(layer) for layer in str(attrs.get("memory_layers", "")).split(",") if layer.strip()]
        meta["models"] = {
            "engram": {"name": model, "memory_layers": layers},
            "baseline": {"name": str(attrs.get("baseline", "")), "memory_layers": []},
        }
    return meta


def _packaged() -> Iterator[tuple[int, str, Result]]:
    """Number of the claim, name of the file and result, claim by claim."""
    kept = Path(str(files("engram_interp") / "assets" / "claims"))
    for archive in sorted(kept.glob("claim_*.tar.xz")):
        number = _CLAIM.fullmatch(archive.name)
        if number is None:
            continue
        with archives.unpacked(archive, of="results") as folder:
            for path in sorted(folder.glob("*.nc")):
                yield int(number[1]), path.stem, Result.load(path)

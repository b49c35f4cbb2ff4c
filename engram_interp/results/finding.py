"""Finding bundles: those that are named, and those that lie in a folder that is named.

A name stands for one of these and for nothing else, so that whoever chooses by name, a link for one, never
leaves the places that were given.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engram_interp.results import manifest, wording

SUFFIX = ".engram"


@dataclass(frozen=True, kw_only=True)
class Found:
    """Bundles by name, whether whole or damaged, and one sentence for each place that holds none.

    Attributes:
        bundles: folders by their names without ``.engram``, numbered where two folders share one.
        notes: what was passed over, and why.
    """

    bundles: Mapping[str, Path]
    notes: tuple[str, ...] = ()


def find_bundles(places: Sequence[str | Path]) -> Found:
    """The bundles at `places`: each a bundle, or a folder that holds some, itself or one folder deeper.

    Links that lead out of a folder are passed over.
    """
    found: dict[str, Path] = {}
    notes: list[str] = []
    for place in map(Path, places):
        inside = [place] if is_bundle(place) else list(_inside(place, notes))
        if not inside:
            notes.append(f"There is no bundle at {place}; give a folder NAME{SUFFIX} or one that holds some.")
        for path in inside:
            _add(found, path)
    return Found(bundles=found, notes=tuple(notes))


def is_bundle(path: Path) -> bool:
    """Whether a folder is a bundle, whole or damaged: by its name, or as it has a manifest."""
    return path.is_dir() and (path.name.endswith(SUFFIX) or (path / manifest.NAME).exists())


def _inside(folder: Path, notes: list[str]) -> Iterator[Path]:
    for pattern in (f"*{SUFFIX}", f"*/*{SUFFIX}"):
        for path in sorted(folder.glob(pattern)):
            if path.name.startswith(".") or not path.is_dir() or path.parent.name.endswith(SUFFIX):
                continue
            if path.resolve().is_relative_to(folder.resolve()):
                yield path
            else:
                notes.append(f"{path} is a link that leads out of {folder}; name its target to have it.")


def _add(found: dict[str, Path], path: Path) -> None:
    """Give `path` its folder's name, with a number where two folders share it."""
    name = plain = wording.encodable(path.resolve().name.removesuffix(SUFFIX))
    number = 2
    while name in found and found[name].resolve() != path.resolve():
        name, number = f"{plain}-{number}", number + 1
    found[name] = path

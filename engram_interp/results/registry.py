"""Which class reads which kind of result."""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from engram_interp.results.base import Result

    R = TypeVar("R", bound=Result)

_CLASSES: "dict[str, type[Result]]" = {}


def register(cls: "type[R]") -> "type[R]":
    """Class decorator: `cls` reads the results whose kind it names."""
    _CLASSES[cls.kind] = cls
    return cls


def find(kind: str) -> "type[Result] | None":
    """The class for `kind`, or None where this version has none."""
    return _CLASSES.get(kind)


def kinds() -> list[str]:
    """The kinds of result that this version reads, sorted."""
    return sorted(_CLASSES)

"""What an ablation of one prompt switches off, as a link carries it: ``rows_zero:t12:L1,3:n2:h0``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "rows_zero", "gate_zero", "output_off", "gate_mean", "gate_one", "rows_mean", "rows_shuffled",
    "rows_random", "ngram_swap",
]  # fmt: skip
KINDS: dict[Kind, str] = {
    "rows_zero": "rows → 0",
    "gate_zero": "gate → 0",
    "output_off": "output off",
    "gate_mean": "gate → its mean",
    "gate_one": "gate → 1",
    "rows_mean": "rows → their mean",
    "rows_shuffled": "rows shuffled",
    "rows_random": "random rows",
    "ngram_swap": "another n-gram's rows",
}
"""Names on the screen of the package's ablations; those that come first are the plainest."""
BY_ROWS = ("rows_zero", "rows_mean", "rows_random", "rows_shuffled", "ngram_swap")
"""Kinds that can be limited to some orders and heads."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One ablation; None stands for all of a kind of part.

    Attributes:
        kind: what is done.
        token: whose prediction is looked at, and whose reads are changed.
        everywhere: whether the reads of all tokens are changed.
        layers: memory layers.
        orders: lengths of n-grams.
        heads: heads of each order.
        swap: the token whose reads `ngram_swap` takes.
        seed: of the controls.
    """

    kind: Kind
    token: int
    everywhere: bool = False
    layers: tuple[int, ...] | None = None
    orders: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    swap: int | None = None
    seed: int = 0

    @property
    def text(self) -> str:
        """The spec as a link carries it.

        >>> Spec(kind="rows_zero", token=12, layers=(1, 3), seed=2).text
        'rows_zero:t12:L1,3:s2'
        """
        parts = [self.kind, f"t{self.token}", *(["all"] if self.everywhere else [])]
        for letter, values in (("L", self.layers), ("n", self.orders), ("h", self.heads)):
            parts += [] if values is None else [letter + ",".join(map(str, values))]
        parts += [] if self.swap is None else [f"w{self.swap}"]
        return ":".join([*parts, *([f"s{self.seed}"] if self.seed else [])])

    @property
    def label(self) -> str:
        """The spec in words, short enough for a list."""
        parts = [KINDS[self.kind], "at every token" if self.everywhere else f"at token {self.token}"]
        for name, values in (("layer", self.layers), ("order", self.orders), ("head", self.heads)):
            parts += [] if values is None else [f"{name} {', '.join(map(str, values))}"]
        parts += [] if self.swap is None else [f"from token {self.swap}"]
        return " · ".join([*parts, *([f"draw {self.seed}"] if self.seed else [])])


def parse(text: str) -> Spec | None:
    """The spec that a link carries; None where it is none.

    >>> parse("rows_zero:t12:L1,3:s2") == Spec(kind="rows_zero", token=12, layers=(1, 3), seed=2)
    True
    >>> parse("rows_zero"), parse("nonsense:t1"), parse("gate_zero:t-1")
    (None, None, None)
    """
    name, *parts = text.split(":")
    kind = next((kind for kind in KINDS if kind == name), None)
    read = {part[:1]: _numbers(part[1:]) for part in parts if part != "all"}
    if kind is None or any(values is None for values in read.values()) or set(read) - set("tLnhws"):
        return None
    token, swap, seed = (_one(read.get(letter)) for letter in "tws")
    if token is None:
        return None
    return Spec(
        kind=kind,
        token=token,
        everywhere="all" in parts,
        layers=read.get("L"),
        orders=read.get("n"),
        heads=read.get("h"),
        swap=swap,
        seed=seed or 0,
    )


def _numbers(text: str) -> tuple[int, ...] | None:
    values = text.split(",")
    if all(value.isascii() and value.isdigit() and len(value) < 10 for value in values):
        return tuple(map(int, values))
    return None


def _one(values: Sequence[int] | None) -> int | None:
    return values[0] if values is not None and len(values) == 1 else None

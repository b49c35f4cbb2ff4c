"""What an ablation of one prompt switches off, as a link carries it: ``rows_zero:t12:L1,3:n2:h0``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from engram_interp.numbering import numbers, runs_of

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

_LISTS = {"a": "tokens", "L": "layers", "n": "orders", "h": "heads", "b": "streams"}
"""By its letter in a link: what is limited to some of its parts."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One ablation; None stands for all of a kind of part.

    Attributes:
        kind: what is done.
        token: whose prediction is looked at, and whose reads are changed where nothing else is said.
        tokens: whose reads are changed, where that is not `token` alone.
        everywhere: whether the reads of all tokens are changed.
        layers: memory layers.
        orders: lengths of n-grams (`BY_ROWS` only).
        heads: heads of each order (`BY_ROWS` only).
        streams: residual streams (all kinds but `BY_ROWS`).
        swap: the token whose reads `ngram_swap` takes.
        seed: of the controls.
    """

    kind: Kind
    token: int
    tokens: tuple[int, ...] | None = None
    everywhere: bool = False
    layers: tuple[int, ...] | None = None
    orders: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    streams: tuple[int, ...] | None = None
    swap: int | None = None
    seed: int = 0

    @property
    def text(self) -> str:
        """The spec as a link carries it.

        >>> Spec(kind="rows_zero", token=12, layers=(1, 3), seed=2).text
        'rows_zero:t12:L1,3:s2'
        """
        parts = [self.kind, f"t{self.token}", *(["all"] if self.everywhere else [])]
        for letter, name in _LISTS.items():
            values = getattr(self, name)
            parts += [] if values is None else [letter + ",".join(runs_of(values))]
        parts += [] if self.swap is None else [f"w{self.swap}"]
        return ":".join([*parts, *([f"s{self.seed}"] if self.seed else [])])

    @property
    def label(self) -> str:
        """The spec in words, short enough for a list."""
        parts = [KINDS[self.kind], self._where]
        for name in ("layers", "orders", "heads", "streams"):
            values = getattr(self, name)
            parts += [] if values is None else [f"{name[:-1]} {', '.join(map(str, values))}"]
        parts += [] if self.swap is None else [f"from token {self.swap}"]
        return " · ".join([*parts, *([f"draw {self.seed}"] if self.seed else [])])

    @property
    def changed(self) -> tuple[int, ...] | None:
        """Whose reads are changed, in order; None for those of every token."""
        if self.everywhere:
            return None
        return (self.token,) if self.tokens is None else tuple(sorted(set(self.tokens)))

    @property
    def _where(self) -> str:
        changed = self.changed
        if changed is None:
            return "at every token"
        if changed == (self.token,):
            return f"at token {self.token}"
        return f"at token{'s' * (len(changed) > 1)} {', '.join(runs_of(changed))}, seen at {self.token}"


def parse(text: str) -> Spec | None:
    """The spec that a link carries; None where it is none.

    >>> parse("rows_zero:t12:L1,3:s2") == Spec(kind="rows_zero", token=12, layers=(1, 3), seed=2)
    True
    >>> parse("gate_zero:t9:a3,7:b0").label
    'gate → 0 · at tokens 3, 7, seen at 9 · stream 0'
    >>> parse("gate_zero:t9:a3-6").text
    'gate_zero:t9:a3-6'
    >>> parse("rows_zero"), parse("nonsense:t1"), parse("gate_zero:t-1")
    (None, None, None)
    """
    name, *parts = text.split(":")
    kind = next((kind for kind in KINDS if kind == name), None)
    read = {part[:1]: numbers(part[1:]) for part in parts if part != "all"}
    if len(read) + parts.count("all") != len(parts):
        return None  # one of them is there twice
    if kind is None or any(values is None for values in read.values()) or set(read) - {*_LISTS, *"tws"}:
        return None
    token, swap, seed = (_one(read.get(letter)) for letter in "tws")
    if token is None or ("all" in parts and "a" in read):
        return None
    return Spec(
        kind=kind,
        token=token,
        everywhere="all" in parts,
        tokens=read.get("a"),
        layers=read.get("L"),
        orders=read.get("n"),
        heads=read.get("h"),
        streams=read.get("b"),
        swap=swap,
        seed=seed or 0,
    )


def fitted(spec: Spec, *, tokens: int, offered: Mapping[str, Sequence[int]]) -> tuple[Spec, list[str]]:
    """The nearest to `spec` that this text and model have, and what of it they do not have, in words.

    Args:
        spec: as a link asks for it.
        tokens: how many the text has.
        offered: layers, orders, heads and streams of the model; what is not named is not known.

    >>> spec = Spec(kind="rows_zero", token=99, layers=(1, 9), orders=(7,))
    >>> found, missing = fitted(spec, tokens=5, offered={"layers": [1, 4], "orders": [2, 3]})
    >>> found.text, missing
    ('rows_zero:t4:L1,4:n3', ['token 99', 'layer 9', 'order 7'])
    """
    missing: list[str] = []

    def near(what: str, value: int, options: Sequence[int]) -> int:
        if value not in options:
            missing.append(f"{what} {value}")
        return min(options, key=lambda one: abs(one - value))

    changes: dict[str, Any] = {"token": near("token", spec.token, range(tokens))}
    if spec.swap is not None:
        changes["swap"] = near("token", spec.swap, range(tokens))
    for name in _LISTS.values():
        options = range(tokens) if name == "tokens" else offered.get(name, ())
        values = getattr(spec, name)
        if values is not None and options:
            changes[name] = tuple(sorted({near(name.removesuffix("s"), value, options) for value in values}))
    return replace(spec, **changes), missing


def _one(values: Sequence[int] | None) -> int | None:
    return values[0] if values is not None and len(values) == 1 else None

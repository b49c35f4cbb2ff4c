"""Whether the values of a recipe are of the kind, and in the range, that their fields want."""

import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from engram_interp.errors import InputError

# Every number of a recipe is finite and at least 0; what is narrower stands here, by the field's name.
_FROM_1 = frozenset(
    {"tokens", "batch", "evaluate_every", "d_vocab"}
    | {"n_layers", "d_model", "n_heads", "d_mlp", "n_ctx", "n_streams", "d_expert", "experts_per_token"}
    | {"heads", "d_row", "rows", "conv_dilation"}
)
_ABOVE_0 = frozenset(
    ["learning_rate", "table_rate", "clip", "rope_theta", "rms_eps", "norm_eps", "conv_norm_eps"]
)
_BELOW_1 = frozenset(["beta1", "beta2"])
_UP_TO_1 = frozenset(["final_rate"])


def check_values(kind: type, values: Mapping[str, Any], *, section: str = "") -> None:
    """Refuse values that fields of the dataclass `kind` cannot take; other names are left alone.

    Args:
        kind: Whose annotations say what is wanted.
        values: Some of its fields' values, lists in place of tuples allowed.
        section: What messages put before the name of a field: "schedule" for ``schedule.batch``.

    Raises:
        InputError: Naming the field, what it wants and what came.
    """
    hints, own = get_type_hints(kind), {field.name for field in fields(kind)}
    for name, value in values.items():
        if name not in own:
            continue
        wanted = _alternatives(hints[name])
        if not any(_takes(hint, name, value) for hint in wanted):
            words = " or ".join(_words(hint, name) for hint in wanted if hint is not NoneType)
            raise InputError(f"{section}{'.' if section else ''}{name} wants {words}, got {value!r}.")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _takes(hint: Any, name: str, value: Any) -> bool:
    """Whether a field so annotated takes the value; True for annotations that no recipe writes."""
    plain = not isinstance(value, bool)
    origin = get_origin(hint)
    if hint is int:
        return plain and isinstance(value, Integral) and int(value) >= (name in _FROM_1)
    if hint is float:
        return plain and isinstance(value, Real) and _in_range(name, float(value))
    if origin is Literal:
        return value in get_args(hint)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_takes(get_args(hint)[0], name, one) for one in value)
    return isinstance(value, origin or hint)


def _in_range(name: str, value: float) -> bool:
    below = value < 1 if name in _BELOW_1 else value <= 1 if name in _UP_TO_1 else True
    return math.isfinite(value) and (value > 0 if name in _ABOVE_0 else value >= 0) and below


def _words(hint: Any, name: str) -> str:
    """What a field so annotated wants, as part of a sentence."""
    if hint is int:
        return f"a whole number of at least {int(name in _FROM_1)}"
    if hint is float:
        top = "to below 1" if name in _BELOW_1 else "to 1"
        if name in _BELOW_1 | _UP_TO_1:
            return f"a number from 0 {top}"
        return "a number above 0" if name in _ABOVE_0 else "a number of at least 0"
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list, each {_words(get_args(hint)[0], name)}"
    return {bool: "true or false", str: "text", dict: "a table"}.get(
        get_origin(hint) or hint, "another value"
    )

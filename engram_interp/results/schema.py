"""What a kind of result must hold: dims, types, units and a meaning for every variable.

The schema is the only place where units and meanings are written. Analyses hand over plain arrays,
`Schema.dataset` gives them their names, and `Schema.labelled` checks whatever is made into a result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from engram_interp.errors import InputError

DType = Literal["float", "int", "bool", "str"]

_KINDS: dict[DType, str] = {"float": "f", "int": "iu", "bool": "b", "str": "UOT"}


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable or coordinate of a result.

    Attributes:
        dims: names of its axes, in order; empty for a scalar.
        dtype: kind of its values.
        units: unit of its values; ``"1"`` for pure numbers.
        meaning: one line; becomes ``long_name``.
        optional: whether a result may lack it.
        missing: why values are NaN where that has always the same reason.
        counted: for coordinates: 0, 1, 2, … where an analysis gives none.
    """

    dims: tuple[str, ...]
    dtype: DType
    units: str
    meaning: str
    optional: bool = False
    missing: str = ""
    counted: bool = False


def floats(dims: str, units: str, meaning: str, *, missing: str = "") -> Variable:
    """Real numbers along `dims` (names with spaces between; empty for a scalar)."""
    return Variable(dims=tuple(dims.split()), dtype="float", units=units, meaning=meaning, missing=missing)


def ints(dims: str, units: str, meaning: str) -> Variable:
    """Whole numbers along `dims`."""
    return Variable(dims=tuple(dims.split()), dtype="int", units=units, meaning=meaning)


def flags(dims: str, meaning: str) -> Variable:
    """Truth values along `dims`."""
    return Variable(dims=tuple(dims.split()), dtype="bool", units="1", meaning=meaning)


def texts(dims: str, meaning: str, *, optional: bool = False) -> Variable:
    """Text along `dims`."""
    return Variable(dims=tuple(dims.split()), dtype="str", units="1", meaning=meaning, optional=optional)


def counted(name: str, units: str, meaning: str) -> Variable:
    """A coordinate that is 0, 1, 2, … where an analysis gives none."""
    return Variable(dims=(name,), dtype="int", units=units, meaning=meaning, counted=True)


def with_interval(name: str, variable: Variable) -> dict[str, Variable]:
    """`variable` under `name`, and the ends of its 95 % interval as ``name_low`` and ``name_high``."""
    ends = {"_low": "lower", "_high": "upper"}
    return {name: variable} | {
        f"{name}{end}": replace(variable, meaning=f"{variable.meaning}, {word} end of the 95 % interval")
        for end, word in ends.items()
    }


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The coordinates and variables of one kind of result; others may be added if they carry labels."""

    coords: Mapping[str, Variable]
    variables: Mapping[str, Variable]

    def dataset(
        self,
        *,
        coords: Mapping[str, npt.ArrayLike],
        variables: Mapping[str, npt.ArrayLike],
        missing: Mapping[str, str],
    ) -> xr.Dataset:
        """Name the axes of plain arrays; `missing` gives, by variable, the reason for its NaN values."""
        for name in (*coords, *variables, *missing):
            if name not in self.coords and name not in self.variables:
                near = get_close_matches(name, [*self.variables, *self.coords], n=3)
                hint = f"did you mean {', '.join(near)}?" if near else "add it to the schema first."
                raise InputError(f"{name!r} is no variable of this kind of result; {hint}")
        arrays = {name: _array(name, values, self.variables[name]) for name, values in variables.items()}
        data = xr.Dataset(arrays)
        named = {name: _array(name, values, self.coords[name]) for name, values in coords.items()}
        for name, variable in self.coords.items():
            dim = variable.dims[0]
            if variable.counted and name not in named and dim in data.sizes:
                named[name] = ((dim,), np.arange(data.sizes[dim]))
        data = data.assign_coords(named)
        for name, reason in missing.items():
            data[name].attrs["missing"] = reason
        return data

    def labelled(self, data: xr.Dataset, *, owner: str) -> xr.Dataset:
        """A copy of `data` with every unit and meaning filled in; an `InputError` where it does not fit."""
        data = data.copy()
        for name, variable in {**self.coords, **self.variables}.items():
            if name not in data.variables:
                if variable.optional:
                    continue
                raise InputError(
                    f"{owner} wants the variable {name!r} with dims {_named(variable.dims)}; it is not there."
                )
            _check(data[name], variable, owner=owner)
            data[name].attrs = _labels(data[name], variable, owner=owner)
        for added in data.variables:
            bare = {"units", "long_name"} - set(data[added].attrs)
            if bare:
                lacking = " and ".join(sorted(bare, reverse=True))
                raise InputError(f"{owner}: the added variable {added!r} lacks {lacking} in its attrs.")
        return data


def _array(name: str, values: npt.ArrayLike, variable: Variable) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    array = _texts(values) if variable.dtype == "str" else np.asarray(values)
    if array.ndim != len(variable.dims):
        raise InputError(
            f"{name!r} wants {len(variable.dims)} axes {_named(variable.dims)}, got shape {array.shape}."
        )
    return variable.dims, array


def _texts(values: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """Text as numpy's own type, the only one that keeps broken bytes (lone surrogates).

    It drops NUL at the end of a text without a word, so NUL becomes its sign ``␀``.
    """
    given = np.asarray(values, dtype=object)
    plain = [text.replace("\0", "␀") if isinstance(text, str) else text for text in given.ravel()]
    if not all(isinstance(text, str) for text in plain):
        return np.asarray(values)
    return np.asarray(plain, dtype=np.str_).reshape(given.shape)


def _named(dims: tuple[Any, ...]) -> str:
    return f"({', '.join(str(dim) for dim in dims)})"


def _check(array: xr.DataArray, variable: Variable, *, owner: str) -> None:
    """Dims, dtype, and for a coordinate that no value stands twice."""
    name = array.name
    if array.dims != variable.dims:
        raise InputError(
            f"{owner}: {name!r} wants dims {_named(variable.dims)}, got {_named(array.dims)}; "
            "transpose or rename it first."
        )
    fits = array.dtype.kind in _KINDS[variable.dtype]
    if fits and array.dtype.kind == "O":
        fits = all(isinstance(value, str) for value in array.values.ravel())
    if not fits:
        raise InputError(
            f"{owner}: {name!r} wants {variable.dtype} values, got dtype {array.dtype}; convert it."
        )
    if array.dims == (name,) and len(np.unique(array.values.astype(object))) != array.size:
        raise InputError(
            f"{owner}: the coordinate {name!r} wants distinct values, got {array.values.tolist()}."
        )


def _labels(array: xr.DataArray, variable: Variable, *, owner: str) -> dict[str, Any]:
    """Its attrs with unit, meaning and, where values are NaN, the reason."""
    attrs = {"units": variable.units, "long_name": variable.meaning, **array.attrs}
    if attrs["units"] != variable.units:
        raise InputError(
            f"{owner}: {array.name!r} wants units {variable.units!r}, got {attrs['units']!r}; convert it."
        )
    if array.dtype.kind == "f" and bool(np.isnan(array.values).any()):
        attrs.setdefault("missing", variable.missing)
        if not attrs["missing"]:
            raise InputError(
                f"{owner}: {array.name!r} has undefined values (NaN) and no reason for them; "
                "give one in its attribute 'missing'."
            )
    return attrs

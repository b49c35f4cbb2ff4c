"""Labelled arrays as pandas tables."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from engram_interp.errors import InputError


def tidy(data: xr.Dataset) -> pd.DataFrame:
    """One row per value: variable, one column per dim (missing where the variable lacks it), value, unit."""
    dims = [str(dim) for dim in data.sizes]
    parts = [_long(data[name], dims) for name in data.data_vars]
    return pd.concat(parts, ignore_index=True)


def wide(data: xr.Dataset, names: tuple[str, ...]) -> pd.DataFrame:
    """The named variables as columns, one row per point of their joint dims."""
    unknown = [name for name in names if name not in data.data_vars]
    if unknown:
        known = ", ".join(str(name) for name in data.data_vars)
        raise InputError(f"There is no variable {', '.join(unknown)} here; there are {known}.")
    chosen = data[list(names)]
    dims = [str(dim) for dim in chosen.sizes]
    arrays = xr.broadcast(*(chosen[name] for name in names))
    columns = _points(arrays[0].transpose(*dims))
    columns |= {name: array.transpose(*dims) for name, array in zip(names, arrays, strict=True)}
    return pd.DataFrame({name: _column(array.values) for name, array in columns.items()})


def _long(array: xr.DataArray, dims: list[str]) -> pd.DataFrame:
    points = _points(array)
    nowhere = np.full(array.shape, None, dtype=object)
    columns = {
        "variable": np.full(array.shape, str(array.name), dtype=object),
        **{dim: points[dim].values if dim in points else nowhere for dim in dims},
        "value": array.values,
        "units": np.full(array.shape, str(array.attrs.get("units", "")), dtype=object),
    }
    return pd.DataFrame({name: _column(values, mixed=True) for name, values in columns.items()})


def _points(array: xr.DataArray) -> dict[str, xr.DataArray]:
    """For each dim its coordinate at every point of `array`."""
    return {str(dim): array[dim].broadcast_like(array).transpose(*array.dims) for dim in array.dims}


def _column(values: npt.NDArray[Any], *, mixed: bool = False) -> "pd.Series[Any]":
    """One column; text stays plain objects, since pandas's own text type refuses broken bytes."""
    as_object = mixed or values.dtype.kind in "UOT"
    return pd.Series(values.ravel(), dtype=object) if as_object else pd.Series(values.ravel())

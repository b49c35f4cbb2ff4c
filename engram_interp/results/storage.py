"""One dataset, one netCDF-4 file: written whole or not at all, read without trusting it.

netCDF strings cannot hold NUL or lone surrogates (broken bytes of a token). A variable that has such
text is stored with every string as JSON and marked, so that each string comes back as it was. HDF5 does
not compress strings: a large variable of text is stored as numbers into the list of its different
strings, ``NAME_texts``, which its attribute ``texts`` names.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import h5netcdf
import numpy as np
import xarray as xr
from xarray.backends import H5NetCDFStore

from engram_interp.errors import DamagedFileError, InputError
from engram_interp.results.provenance import TOOL

_ENGINE: Final = "h5netcdf"
_HDF5: Final = ("v110", "v110")
"""The format of HDF5 1.10 (2016), an eighth smaller than the earliest one."""
_JSON_MARK = "string_encoding"
_COMPRESS_FROM = 4096
_ONE_CHUNK_TO = 1 << 20
_TEXTS_MARK = "texts"
_NUMBER_FROM = 512


def write(data: xr.Dataset, path: Path) -> None:
    """Write `data` beside `path`, flush it to disk, and only then give it its name."""
    with replacing(path) as temporary:
        stored = _with_codes(_with_plain_strings(data))
        encoding: dict[Any, dict[str, Any]] = {
            name: _encoding(variable) for name, variable in stored.variables.items()
        }
        with h5netcdf.File(temporary, "w", libver=_HDF5) as file:
            stored.dump_to_store(H5NetCDFStore(file), encoding=encoding)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of `path`; at a clean end that file is flushed and becomes `path`."""
    check_folder(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def check_folder(path: Path) -> None:
    """Refuse a file whose folder is not there.

    Raises:
        InputError: Naming the folder.
    """
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent} to write {path.name} into; make it first.")


def flush(path: Path) -> None:
    """Have the system put a file, or the names in a folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> xr.Dataset:
    """The dataset in `path`, in memory; the file is closed again.

    Raises:
        InputError: there is no such file, or it may not be read.
        DamagedFileError: it is cut short or is no netCDF-4 file.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}; give the path of a saved result (.nc).")
    try:
        with xr.open_dataset(path, engine=_ENGINE, decode_times=False, decode_timedelta=False) as data:
            return _with_original_strings(_without_codes(data.load())).drop_encoding()
    except PermissionError as error:
        raise InputError(f"{path} may not be read: {error.strerror}; change its permissions.") from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} cannot be read as netCDF-4; it is cut short or is another kind of file. "
            "Copy it again or make it anew."
        ) from error


def is_ours(path: Path) -> bool:
    """Whether `path` is a file that this tool wrote."""
    try:
        return bool(read(path).attrs.get("tool") == TOOL)
    except InputError:
        return False


def _encoding(variable: xr.Variable) -> dict[str, Any]:
    """Large numeric arrays are compressed, in one chunk up to `_ONE_CHUNK_TO`, a checksum for each chunk."""
    if variable.dtype.kind not in "fiub" or variable.nbytes < _COMPRESS_FROM:
        return {}
    encoding = {"zlib": True, "complevel": 4, "shuffle": True, "fletcher32": True}
    return encoding | ({"chunksizes": variable.shape} if variable.nbytes <= _ONE_CHUNK_TO else {})


def _with_plain_strings(data: xr.Dataset) -> xr.Dataset:
    for name in data.variables:
        array = data[name]
        if array.dtype.kind in "UOT" and any(_is_awkward(text) for text in array.values.ravel()):
            data = data.assign({name: _mapped(array, json.dumps)})
            data[name].attrs[_JSON_MARK] = "json"
    return data


def _with_codes(data: xr.Dataset) -> xr.Dataset:
    for name, array in data.data_vars.items():
        if array.dtype.kind in "UOT" and array.size >= _NUMBER_FROM:
            texts, codes = np.unique(array.values.ravel().astype(str), return_inverse=True)
            listed = f"{name}_{_TEXTS_MARK}"
            data = data.assign(
                {
                    name: (
                        array.dims,
                        codes.reshape(array.shape).astype(np.int32),
                        array.attrs | {_TEXTS_MARK: listed},
                    ),
                    listed: ((listed,), texts.astype(object)),
                }
            )
    return data


def _without_codes(data: xr.Dataset) -> xr.Dataset:
    for name in list(data.data_vars):
        listed = str(data[name].attrs.get(_TEXTS_MARK, ""))
        if listed in data:
            texts = data[listed].values
            attrs = {key: value for key, value in data[name].attrs.items() if key != _TEXTS_MARK}
            data = data.assign({name: (data[name].dims, texts[data[name].values], attrs)}).drop_vars(listed)
    return data


def _with_original_strings(data: xr.Dataset) -> xr.Dataset:
    for name in list(data.variables):
        if data[name].attrs.get(_JSON_MARK) == "json":
            data = data.assign({name: _mapped(data[name], json.loads)})
            del data[name].attrs[_JSON_MARK]
    data.attrs = {name: _python(value) for name, value in data.attrs.items()}
    return data


def _mapped(array: xr.DataArray, change: Callable[[str], str]) -> xr.DataArray:
    texts = [change(str(text)) for text in array.values.ravel()]
    keeps_end = any(text.endswith("\0") for text in texts)  # numpy's own text type would drop it
    values = np.asarray(texts, dtype=object if keeps_end else np.str_).reshape(array.shape)
    return array.copy(data=values)


def _is_awkward(text: object) -> bool:
    return "\0" in str(text) or any("\ud800" <= character <= "\udfff" for character in str(text))


def _python(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value

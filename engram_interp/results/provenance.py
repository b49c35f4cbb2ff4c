"""Where a result comes from: flat attributes that travel with it.

Every result says ``tool``, ``version``, ``created`` (UTC) and ``kind``. An analysis adds what it
knows; the names that summaries read are these:

==================  ============================================================================
``model``           name of the model, for results about one
``engram``          name of the model with memory, ``baseline`` of the one without
``estimator``       e.g. ``"minibatch"``; ``top_k``, ``streams``, ``seed``
``reference``       what the self-reference is: the baseline itself, or another seed of it
``n_samples``       rows that entered (tokens, unless said otherwise); ``n_documents`` likewise
``memory_layers``   layers that read memory, counted from 0, e.g. ``"1,4"`` (`layer_list` reads it)
``text_digest``     digest of the analysed text; ``notes`` anything a reader should know
==================  ============================================================================
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata

import xarray as xr

import engram_interp
from engram_interp.errors import InputError

TOOL = "engram-interp"
PACKAGES = (
    "torch",
    "transformer-lens",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "xarray",
    "h5netcdf",
)

Value = str | int | float | bool | None


def stamped(data: xr.Dataset, *, kind: str, provenance: Mapping[str, Value] | None = None) -> xr.Dataset:
    """A copy of `data` whose attributes name tool, version, time, kind and the given provenance.

    Text and numbers stay as they are, ``True`` and ``False`` become text, ``None`` is left out. What is
    stamped already is kept, so that a loaded result keeps its date.

    Raises:
        InputError: a value is neither text nor number, or `data` is stamped as another kind.
    """
    given = {name: _plain(name, value) for name, value in (provenance or {}).items() if value is not None}
    kept = {str(name): _plain(str(name), value) for name, value in data.attrs.items()}
    attrs = {
        "tool": TOOL,
        "version": engram_interp.__version__,
        "created": now(),
        "kind": kind,
        **kept,
        **given,
    }
    if attrs["kind"] != kind:
        raise InputError(
            f"This data is of kind {attrs['kind']!r}, wanted {kind!r}; use the class of its kind."
        )
    stamped_data = data.copy()
    stamped_data.attrs = attrs
    return stamped_data


def _plain(name: str, value: object) -> str | int | float:
    """Text or a number that every file format keeps."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise InputError(
            f"Provenance {name!r} wants text or a number, got {type(value).__name__}; write it as text."
        )
    if isinstance(value, str) and ("\0" in value or not _encodes(value)):
        raise InputError(f"Provenance {name!r} holds characters that no file keeps; write them as escapes.")
    # Subclasses of str, such as torch's version, are written as the text they are.
    return str(value) if isinstance(value, str) else value


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on, without importing any of them."""
    versions: dict[str, str] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def layer_list(text: object) -> list[int]:
    """The layers in an attribute such as ``"1,4"``.

    >>> layer_list("1, 4"), layer_list("")
    ([1, 4], [])
    """
    return [int(part) for part in str(text).split(",") if part.strip()]

"""Phrases that summaries share, so that intervals, counts and layers always read alike."""

import math
from collections.abc import Iterable, Mapping, Sequence

import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views.theme import number, signed

NOT_RECORDED = "not recorded"


def encodable(text: str) -> str:
    r"""`text` with what is no character spelled out: a folder's name need not be UTF-8.

    >>> encodable("run-\udcff")
    'run-\\udcff'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def scalar(data: xr.Dataset, name: str) -> float:
    """The value of a scalar variable."""
    return float(data[name].item())


def span(low: float, high: float, *, digits: int = 2) -> str:
    """``"[0.61, 1.90]"``."""
    return f"[{number(low, digits=digits)}, {number(high, digits=digits)}]"


def shift(value: float, low: float, high: float) -> str:
    """A signed number of layers with its interval, or without one."""
    interval = "no interval" if math.isnan(low) or math.isnan(high) else f"95 % interval {span(low, high)}"
    return f"{signed(value, digits=2)} layers ({interval})"


def control(value: float, low: float, high: float) -> str:
    """The shift of an internal control; one that is exactly 0 in every resample is said to be a weak one."""
    if value == low == high == 0:
        return "exactly 0 layers in every resample: a weak control"
    return shift(value, low, high)


def after_read(attrs: Mapping[str, object]) -> str:
    """Where a mean over layers begins: in a model without a memory at a layer that was given."""
    if attrs.get("memory_layers") == "" and "first_memory_layer" in attrs:
        return f"from layer {attrs['first_memory_layer']} on (it has no memory)"
    return "after the first memory read"


def listed(items: Iterable[object]) -> str:
    """``"1, 4 and 7"``."""
    words = [str(item) for item in items]
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def position(data: xr.Dataset, token: int) -> int:
    """Where `token` stands among the tokens of a result.

    Raises:
        InputError: If there is no such token.
    """
    tokens = data["token"].values.tolist()
    if token not in tokens:
        raise InputError(f"There is no token {token}; tokens are {tokens[0]} to {tokens[-1]}.")
    return int(tokens.index(token))


def layers(values: Iterable[int]) -> str:
    """``"layer 1"`` or ``"layers 1 and 4"``, counted from 0."""
    numbers = [int(value) for value in values]
    return f"layer{'' if len(numbers) == 1 else 's'} {listed(numbers)}"


def counted(count: int, noun: str) -> str:
    """``"1 document"``, ``"1,204 samples"``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def file_size(size: int) -> str:
    """``"840 bytes"``, ``"12.7 kB"``, ``"101.4 GB"``; a kB is a thousand bytes."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:,} bytes"


def strata(filled: Sequence[str], *, last: str, by: str = "") -> str:
    """Which strata of training hits were met; one alone tells nothing about the others.

    Args:
        filled: The strata met.
        last: The uppermost.
        by: Which count it was, in words; empty for the hits of rows.
    """
    if by and "rows" not in by:
        return f"by {by} they fall into {listed(filled)}" if filled else "counts unknown"
    if len(filled) == 1:
        why = (
            "rows are too shared to tell strata on this model"
            if filled[0] == last
            else "no strata to compare"
        )
        return f"all training hits fall into the stratum {filled[0]}: {why}"
    return f"training hits fall into the strata {listed(filled)}" if filled else "hits unknown"


def basis(data: xr.Dataset) -> str:
    """How much was analysed: ``"1,204 samples of 64 documents"``."""
    samples, documents = data.attrs.get("n_samples"), data.attrs.get("n_documents")
    parts = [] if samples is None else [counted(int(samples), "sample")]
    parts += [] if documents is None else [counted(int(documents), "document")]
    return " of ".join(parts) or f"number of samples {NOT_RECORDED}"


def why_missing(array: xr.DataArray) -> str:
    """The reason its maker gave for NaN, without a final full stop."""
    return (str(array.attrs.get("missing", "")) or "no reason recorded").rstrip(".")

"""A result: labelled numbers that check, explain, draw and save themselves."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from engram_interp.errors import DamagedFileError, InputError
from engram_interp.results import frames, links, registry, storage
from engram_interp.results.provenance import Value, stamped
from engram_interp.results.schema import Schema
from engram_interp.views import markup, tables
from engram_interp.views.theme import Theme


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Result(ABC):
    """What an analysis found: one `xarray.Dataset` that fits the schema of its kind.

    Every variable carries ``units`` and ``long_name``; NaN means undefined, and the variable's
    attribute ``missing`` says why. ``data.attrs`` say where the numbers come from (`provenance`).
    """

    kind: ClassVar[str]
    schema: ClassVar[Schema]

    data: xr.Dataset
    origin: tuple[str, str] | None = field(default=None, init=False)
    """The bundle that it was read from and its name there; None for one that was not."""

    def __post_init__(self) -> None:
        labelled = self.schema.labelled(self.data, owner=type(self).__name__)
        object.__setattr__(self, "data", stamped(labelled, kind=self.kind))

    @classmethod
    def from_arrays(
        cls,
        *,
        coords: Mapping[str, npt.ArrayLike],
        variables: Mapping[str, npt.ArrayLike],
        provenance: Mapping[str, Value] | None = None,
        missing: Mapping[str, str] | None = None,
    ) -> Self:
        """Build a result from plain arrays; dims, units and meanings come from the schema.

        Args:
            coords: by name; token, rank, column, prompt and the like count from 0 if not given.
            variables: by name, axes in the order of the schema.
            provenance: text and numbers for ``data.attrs``.
            missing: by variable, why some of its values are NaN.
        """
        data = cls.schema.dataset(coords=coords, variables=variables, missing=missing or {})
        return cls(data=stamped(data, kind=cls.kind, provenance=provenance))

    @abstractmethod
    def summary(self) -> str:
        """One sentence: what was found, by which estimator, on how much, how surely."""

    @abstractmethod
    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """The figure of this result; nothing is shown or written."""

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write one netCDF-4 file, whole or not at all, and return its path.

        Raises:
            InputError: `path` exists and `overwrite` is off, or it is no file of this tool.
        """
        target = Path(path)
        if target.exists():
            if not storage.is_ours(target):
                raise InputError(f"{target} exists and is not ours; choose another name.")
            if not overwrite:
                raise InputError(f"{target} exists; choose another name or pass overwrite=True.")
        storage.write(self.data, target)
        return target

    def app_url(
        self,
        *,
        prompt: str | None = None,
        layer: int | None = None,
        token: int | None = None,
        server: str = links.LOCAL,
    ) -> str:
        """The address under which ``engram-interp explore`` shows this part of its bundle.

        Args:
            prompt: a prompt of the bundle, by its name; by default the one that this is of.
            layer: counted from 0.
            token: position in the prompt, counted from 0.
            server: where the explorer listens.

        Raises:
            InputError: it was not read from a bundle, which is what the explorer opens.
        """
        if self.origin is None:
            raise InputError(
                "The explorer shows parts of bundles, and this result was not read from one; write it with "
                "write_bundle, and take the part of open_bundle."
            )
        bundle, part = self.origin
        return links.address(
            self.kind, bundle=bundle, part=part, prompt=prompt, layer=layer, token=token, server=server
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a saved result; ``Result.load`` finds the class by the file's kind.

        Raises:
            InputError: there is no such file, or it holds another kind.
            DamagedFileError: it is cut short, no netCDF-4, or does not fit its kind.
        """
        data = storage.read(Path(path))
        kind = str(data.attrs.get("kind", ""))
        found = registry.find(kind)
        if found is None:
            known = ", ".join(registry.kinds())
            raise InputError(
                f"{path} holds the kind {kind!r}, which this version does not know; it knows {known}."
            )
        if not issubclass(found, cls):
            raise InputError(
                f"{path} holds a {found.__name__}, not a {cls.__name__}; use {found.__name__}.load."
            )
        try:
            return found(data=data)
        except InputError as error:
            raise DamagedFileError(f"{path} does not fit its kind {kind!r}: {error}") from error

    def to_frame(self, *names: str) -> pd.DataFrame:
        """A tidy table of everything, one row per value; with `names`, one column for each of these."""
        return frames.wide(self.data, names) if names else frames.tidy(self.data)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary()}>"

    def _repr_html_(self) -> str:
        variables = {
            f"{name}[{', '.join(str(dim) for dim in array.dims)}]": f"{array.attrs['long_name']} "
            f"({array.attrs['units']})"
            for name, array in self.data.data_vars.items()
        }
        folded = (
            markup.element("details", markup.element("summary", title), tables.facts(pairs))
            for title, pairs in (("Variables", variables), ("Where this comes from", self.data.attrs))
        )
        heading = markup.element("b", type(self).__name__)
        return str(markup.fragment(heading, markup.element("p", self.summary()), *folded))

"""From activations of two models at the same tokens to a `DepthResult`: the work behind `depth`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from engram_interp.capture.samples import Samples, document_groups
from engram_interp.errors import InputError
from engram_interp.metrics import bootstrap, cka, hsic, outliers, shifts
from engram_interp.metrics.arrays import Array
from engram_interp.metrics.centring import centre
from engram_interp.results import DepthResult

Estimator = Literal["minibatch", "unbiased", "biased"]
_GROUP_ROWS = 32
_FEWEST_SAMPLES = 4
_DROPPED = 0.02
_REPORTED = 0.01
_UNLIKE = "no similarity of that layer is positive (for a bound: in over 5 % of resamples)"
_STILL = "in over 5 % of resamples some layer does not vary"
_PLAIN = ("depth", "depth_by_k")
_SOFT = (
    *(f"{name}{end}" for name in _PLAIN for end in ("", "_self")),
    *(f"{v}{end}" for v in ("shift", "shift_by_k", "soft_headline") for end in ("", "_low", "_high")),
)

Layers = Sequence[Array]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Activations at the same samples, and how to compare them.

    Attributes:
        sides: layers [sample, d] of the model, of the baseline, and of the reference; None where the
            baseline itself stands for it.
        samples: which documents the rows are of.
        estimator: of CKA.
        place: which layers count for what.
        seed: of grouping and bootstrap.
    """

    sides: tuple[Layers, Layers, Layers | None]
    samples: Samples
    estimator: Estimator
    place: shifts.Place
    seed: int

    def groups(self) -> list[np.ndarray]:
        """Whole documents in disjoint groups of 32 samples."""
        return document_groups(self.samples, rows=_GROUP_ROWS, seed=self.seed)

    def result(self, facts: dict[str, Any], *, n_boot: int, checks: bool = True) -> DepthResult:
        """Everything there is to say; `facts` go into the provenance.

        Args:
            facts: Flat facts about the models.
            n_boot: Bootstrap samples.
            checks: Whether the headline is worked out without the largest rows, and for the reference.
        """
        xs, ys, other = self.sides
        rs = ys if other is None else other
        kept = outliers.keep_rows([*xs, *ys], fraction=_DROPPED)
        variables = self.estimates(xs, other, n_boot=n_boot)
        if checks:
            variables |= self._without_largest(kept, n_boot=n_boot) | self._null(n_boot=n_boot)
        variables |= {name: getattr(self.place, name) for name in ("edge", "pre_memory", "interior")}
        variables["outlier_share"] = _ragged([outliers.shares(part, fraction=_REPORTED) for part in (xs, ys)])
        coords: dict[str, Any] = {
            "layer": np.arange(len(xs)),
            "baseline_layer": np.arange(len(ys)),
            "reference_layer": np.arange(len(rs)),
            "model": ["engram", "baseline"],
            "reported_layer": np.arange(max(len(xs), len(ys))),
            "k": np.arange(len(variables["depth_by_k"])) + 1,
        }
        facts = facts | self._facts() | {"n_boot": n_boot, "trimmed_share": 1 - len(kept) / len(self.samples)}
        facts["interval"] = shifts.interval_name(itself=other is None)
        reasons = self._missing(variables)
        return DepthResult.from_arrays(
            coords=coords,
            variables=variables,
            provenance=facts,
            missing={name: reason for name, reason in reasons.items() if name in variables},
        )

    def estimates(self, xs: Layers, other: Layers | None, *, n_boot: int) -> dict[str, Any]:
        """Similarities, readings, shifts, bounds, and the HSIC terms they came from."""
        ys, groups = self.sides[1], self.groups()
        itself, rs = other is None, ys if other is None else other
        if self.estimator != "minibatch" or not groups:
            for what, part in (("the model", xs), ("the baseline", ys), ("the reference", rs)):
                _check_varies(np.array([centre(layer, name=what).norms.sum() for layer in part]), what)
            both = (
                cka.matrix(part, ys, estimator=self.estimator, batch_size=_GROUP_ROWS) for part in (xs, rs)
            )
            found: dict[str, Any] = dict(zip(("cka", "cka_self"), both, strict=True))
            measured = shifts.measure(found["cka"], found["cka_self"], self.place, itself=itself)
            return found | measured | shifts.unbounded(measured)
        terms, own = hsic.group_terms(xs, ys, groups), hsic.group_terms(rs, ys, groups)
        for what, squares in (("the model", terms.xx), ("the baseline", terms.yy), ("the reference", own.xx)):
            _check_varies(squares.sum(axis=0), what)
        found = {"cka": hsic.cka_from_terms(terms), "cka_self": hsic.cka_from_terms(own)}
        found |= {"hsic": terms.xy, "hsic_engram": terms.xx, "hsic_baseline": terms.yy}
        found |= {"hsic_self": own.xy, "hsic_reference": own.xx}
        return found | shifts.estimates(terms, own, self.place, n_boot=n_boot, seed=self.seed, itself=itself)

    def why_no_interval(self) -> str:
        """The reason why there is no interval; empty where there is one."""
        if self.estimator != "minibatch":
            return "intervals are given for the minibatch estimator only"
        count = len(self.groups())
        if count < bootstrap.MIN_GROUPS:
            return (
                f"an interval wants at least {bootstrap.MIN_GROUPS} groups of {_GROUP_ROWS} samples from "
                f"whole documents, the prompts give {count}"
            )
        return ""

    def _without_largest(self, kept: np.ndarray, *, n_boot: int) -> dict[str, Any]:
        """The headline without the 2 % of largest norm in any layer."""
        names = {f"headline_trimmed{end}": f"headline{end}" for end in ("", "_low", "_high")}
        if len(kept) < _FEWEST_SAMPLES:
            return dict.fromkeys(names, np.nan)
        xs, ys, rs = ([layer[kept] for layer in part] if part is not None else None for part in self.sides)
        assert xs is not None and ys is not None
        few = Samples(
            document=self.samples.document[kept],
            position=self.samples.position[:, kept],
            what=self.samples.what,
        )
        found = replace(self, sides=(xs, ys, rs), samples=few).estimates(xs, rs, n_boot=n_boot)
        return {name: found[source] for name, source in names.items()}

    def _null(self, *, n_boot: int) -> dict[str, Any]:
        """The headline with the reference in the model's place, read against the baseline itself."""
        names = {f"null_headline{end}": f"headline{end}" for end in ("", "_low", "_high")}
        _, ys, rs = self.sides
        if rs is None:
            return dict.fromkeys(names, np.nan)
        place = replace(self.place, n_layers=len(rs), n_reference=len(ys))
        found = replace(self, place=place).estimates(rs, None, n_boot=n_boot)
        return {name: found[source] for name, source in names.items()}

    def _facts(self) -> dict[str, Any]:
        itself = self.sides[2] is None
        return {
            "samples": self.samples.what,
            "n_samples": len(self.samples),
            "n_documents": len(np.unique(self.samples.document)),
            "n_groups": len(self.groups()),
            "group_rows": _GROUP_ROWS,
            "estimator": self.estimator,
            "top_k": self.place.top_k,
            "seed": self.seed,
            "interval": self.why_no_interval() or "95 % bootstrap over groups of whole documents",
            "path_shift": "calibrated: the reference's path read backwards"
            + (", its own diagonal lowered to what another seed would reach" if itself else ""),
        }

    def _missing(self, variables: dict[str, Any]) -> dict[str, str]:
        """By variable, why some of its values are undefined."""
        place = self.place
        reasons = {
            "peak": "the maximum is not settled: its interval holds three or more layers, or layers tie",
            "outlier_share": "the models have different numbers of layers",
            "headline_trimmed": "too few samples are left without the largest",
        }
        reasons |= {f"peak{end}": reasons["peak"] for end in ("_self", "_shift", "_shift_low", "_shift_high")}
        if not place.referred.all():
            names = ["depth_self", "depth_by_k_self", "peak_self", "path_self"]
            shifted = ("shift", "shift_by_k", "path_shift")
            names += [f"{v}{end}" for v in shifted for end in ("", "_low", "_high")]
            reasons |= dict.fromkeys(names, f"the reference has only {int(place.referred.sum())} layers")
        why = self.why_no_interval()
        if why:
            reasons |= {v: why for v in variables if v.endswith(("_low", "_high"))} | {"detectable": why}
        if not place.pre_memory.any():
            none = "no residual comes before the first memory read"
            reasons |= {f"control_shift{end}": none for end in ("", "_low", "_high")}
        if not place.interior.any():
            none = "no interior layer comes after the first memory read"
            means = ("headline", "headline_trimmed", "soft_headline", "null_headline")
            reasons |= {f"{name}{end}": none for name in means for end in ("", "_low", "_high")}
            reasons |= {"detectable": none}
        if self.sides[2] is None:
            none = "no other seed of the baseline was given"
            reasons |= {f"null_headline{end}": none for end in ("", "_low", "_high")}
        for end in ("_low", "_high"):
            reasons.setdefault(f"headline_trimmed{end}", "too few groups are left without the largest")
        for name in _unlike(variables, place):
            if not (why and name.endswith(("_low", "_high"))):
                reasons[name] = "; ".join(filter(None, [reasons.get(name), _UNLIKE]))
        # A bound may be undefined in other resamples only (`depth.resample`), so each has its reason.
        bounds = [v for v in variables if v.endswith(("_low", "_high", "detectable"))]
        return {v: _UNLIKE if v in _SOFT else _STILL for v in bounds} | reasons


def _unlike(found: Mapping[str, Any], place: shifts.Place) -> list[str]:
    """Readings by the soft index that are undefined though the reference has the layer.

    The index weighs baseline layers by their similarity, so where none is positive, as between
    unrelated layers, there is nothing to weigh.
    """
    names = []
    for name in _SOFT:
        undefined = np.isnan(found[name])
        if name.startswith("soft_headline"):
            undefined = undefined & place.interior.any()
        elif name not in _PLAIN:
            undefined = undefined & place.referred
        if undefined.any():
            names.append(name)
    return names


def _check_varies(squares: np.ndarray, what: str) -> None:
    if np.any(squares <= 0):
        raise InputError(
            f"Layer {int(np.argmin(squares))} of {what} does not vary between samples (its rows are equal, "
            "or all but one are), so its CKA is undefined; give other text, or leave that layer out."
        )


def _ragged(rows: Sequence[np.ndarray]) -> np.ndarray:
    out = np.full((len(rows), max(map(len, rows))), np.nan)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out

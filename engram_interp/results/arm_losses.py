"""Losses of every training run of a family on one held-out text."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from scipy.special import stdtrit

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, counted, floats, ints, texts, with_interval
from engram_interp.views import forests, training
from engram_interp.views.theme import Theme, number, signed


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ArmLosses(Result):
    """Loss of every run from its saved weights, beside other arms', other seeds' and what runs recorded."""

    kind: ClassVar[str] = "arm_losses"
    schema: ClassVar[Schema] = Schema(
        coords={
            "run": texts("run", "arm and seed"),
            "reference": texts("reference", "arm that losses are compared with"),
            "stratum": texts("stratum", "how often the training text has the context's last three tokens"),
            "evaluation": counted("evaluation", "1", "evaluation along training, in order"),
            "document": counted("document", "1", "held-out document, in order"),
        },
        variables={
            "arm": texts("run", "what was trained"),
            "seed": ints("run", "1", "seed of the initial weights"),
            "digest": texts("run", "digest of the weights"),
            **with_interval("loss", floats("run", "nats", "held-out loss a token")),
            "recorded_loss": floats("run", "nats", "held-out loss a token that the run itself recorded"),
            **with_interval(
                "difference", floats("run reference", "nats", "loss less that of the reference's same seed")
            ),
            "reference_seed": ints(
                "run reference", "1", "seed of the reference's run; -1 where there is none"
            ),
            "spread": floats("run", "nats", "largest difference between the losses of the arm's seeds"),
            "stratum_loss": floats("run stratum", "nats", "held-out loss by context, as recorded"),
            "stratum_tokens": floats("run stratum", "tokens", "held-out tokens by context"),
            "document_loss": floats("run document", "nats", "loss summed over the document's tokens"),
            "document_tokens": ints("document", "tokens", "tokens predicted in the document"),
            "curve_step": floats("run evaluation", "step", "step of the evaluation"),
            "curve_loss": floats("run evaluation", "nats", "loss on the first held-out windows"),
            "parameters": ints("run", "1", "parameters"),
            "table_parameters": ints("run", "1", "parameters in table rows"),
            "flops_per_token": ints("run", "FLOP", "forward operations a token at the full context"),
            "trained_tokens": ints("run", "tokens", "tokens trained on"),
            "seconds": floats("run", "s", "wall time of training"),
        },
    )

    def between(self, arm: str, reference: str) -> dict[str, xr.Dataset]:
        """By run of an arm, the cell of `data` that compares it with the reference; empty where none does."""
        if reference not in self.data["reference"].values:
            return {}
        cells = self.data.sel(reference=reference)
        chosen = {str(run): cells.sel(run=run) for run in cells["run"].values[cells["arm"].values == arm]}
        return {run: cell for run, cell in chosen.items() if int(cell["reference_seed"]) >= 0}

    def between_seeds(self) -> tuple[float, int]:
        """How far another seed of both moves a difference of two runs, by chance: 95 % within ± so much.

        The variance of a run's loss within its arm, pooled over all arms of two seeds or more, for a
        difference of two runs, by Student's t.

        Returns:
            Half-width in nats a token, and its degrees of freedom; NaN and 0 without a second seed.
        """
        arms = self.data["arm"].values
        own = [self.data["loss"].values[arms == arm] for arm in dict.fromkeys(arms.tolist())]
        freedom = sum(len(losses) - 1 for losses in own)
        if not freedom:
            return float("nan"), 0
        squares = sum(float(((losses - losses.mean()) ** 2).sum()) for losses in own)
        return float(stdtrit(freedom, 0.975) * np.sqrt(2 * squares / freedom)), freedom

    def over_seeds(self, cell: xr.Dataset) -> tuple[float, float]:
        """The interval of a difference over documents and over seeds: both half-widths in quadrature.

        Args:
            cell: One of `between`.

        Returns:
            Its ends, nats a token; NaN without a second seed of any arm.
        """
        value, spread = float(cell["difference"]), self.between_seeds()[0]
        ends = (float(cell[f"difference{end}"]) - value for end in ("_low", "_high"))
        low, high = (float(np.hypot(end, spread)) for end in ends)
        return value - low, value + high

    def basis(self) -> str:
        """On what, as part of a sentence."""
        return f"losses of {self.data.attrs.get('family', 'a family')} over {wording.basis(self.data)}"

    def summary(self) -> str:
        """Every arm's loss with its seeds' spread, then every difference to a reference arm."""
        data = self.data
        seconds = float(data["seconds"].sum())
        rate = float(data["trained_tokens"].sum()) / seconds
        return (
            f"Held-out loss, nats a token ({wording.basis(data)}): {'; '.join(self._arms())}. "
            f"{' '.join(self._against(name) for name in data['reference'].values.tolist())} "
            f"{wording.counted(data.sizes['run'], 'run')} took {number(seconds / 3600, digits=1)} h in all, "
            f"{rate:,.0f} tokens/s each."
        )

    def _arms(self) -> list[str]:
        said = []
        for arm in dict.fromkeys(self.data["arm"].values.tolist()):
            runs = self.data.isel(run=self.data["arm"].values == arm)
            losses = " / ".join(number(float(loss)) for loss in runs["loss"].values)
            said.append(f"{arm} {losses}")
        return said

    def _against(self, reference: str) -> str:
        cells = self.data.sel(reference=reference)
        spread = float(cells["spread"].values[cells["arm"].values == reference][0])
        seeds = "one seed" if np.isnan(spread) else f"its seeds {number(spread)} apart"
        told = []
        for index, name in enumerate(cells["run"].values.tolist()):
            cell = cells.isel(run=index)
            if not np.isnan(float(cell["difference"])):
                told.append(f"{name} {_less(cell)}")
        return f"Against {reference} ({seeds}): {', '.join(told) or 'nothing'}."

    def markdown(self) -> list[str]:
        """The lines of a table: an arm a row, its seeds' losses and their differences to each reference."""
        data = self.data
        references = data["reference"].values.tolist()
        heads = ["arm", "loss by seed", *(f"minus {name}" for name in references)]
        lines = [f"| {' | '.join([*heads, 'M parameters (in tables)', 'MFLOP a token', 'min a run'])} |"]
        lines.append("|---" * (len(heads) + 3) + "|")
        for arm in dict.fromkeys(data["arm"].values.tolist()):
            runs = data.isel(run=data["arm"].values == arm)
            cells = [arm, " / ".join(number(float(loss)) for loss in runs["loss"].values)]
            cells += [
                " / ".join(_less(runs.isel(run=i).sel(reference=name)) for i in range(runs.sizes["run"]))
                for name in references
            ]
            one = runs.isel(run=0)
            sizes = [float(one[name]) / 1e6 for name in ("parameters", "table_parameters", "flops_per_token")]
            cells.append(f"{number(sizes[0], digits=2)} ({number(sizes[1], digits=2)})")
            cells.append(number(sizes[2], digits=2))
            cells.append(" / ".join(f"{float(s) / 60:.0f}" for s in runs["seconds"].values))
            lines.append(f"| {' | '.join(cells)} |")
        return lines

    def plot(
        self,
        *,
        theme: Theme = "light",
        reference: str | None = None,
        quantity: Literal["difference", "curve"] = "difference",
    ) -> go.Figure:
        """Every run's loss less the reference arm's, or all losses along training."""
        if quantity == "curve":
            return training.curves_of_runs(self.data, theme=theme)
        name = str(self.data["reference"].values[0]) if reference is None else reference
        cells = self.data.sel(reference=name)
        shown = cells.isel(run=~np.isnan(cells["difference"].values))
        spread = float(cells["spread"].values[cells["arm"].values == name][0])
        arrays = {f"value{end}": ("row", shown[f"difference{end}"].values) for end in ("", "_low", "_high")}
        for end, value in (("", 0.0), ("_low", -spread), ("_high", spread)):
            arrays[f"null_value{end}"] = ("row", np.full(shown.sizes["run"], value))
        rows = xr.Dataset(arrays, coords={"row": shown["run"].values})
        rows["null_value"].attrs["missing"] = f"{name} was trained from one seed"
        return forests.forest(
            rows,
            title=f"Which arm predicts better than {name}?",
            subtitle=f"bars: 95 % intervals over documents; grey: how far the seeds of {name} lie apart",
            axis=f"held-out loss less that of {name} (nats a token)",
            at=0.0,
            rows="run",
            null="seed",
            theme=theme,
        )


def _less(cell: xr.Dataset) -> str:
    """A run's difference to a reference with its interval; a dash where it would be itself."""
    value, low, high = (float(cell[f"difference{end}"]) for end in ("", "_low", "_high"))
    if np.isnan(value):
        return "—"
    return signed(value) if np.isnan(low) else f"{signed(value)} {wording.span(low, high, digits=3)}"

"""Two of a kind beside each other: ablations of one text, figures on one scale, the numbers of bundles."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import draws, marks
from engram_interp.views.markup import Html
from engram_interp.views.tables import Cell, Change, Missing, estimate, measured, table
from engram_interp.views.theme import Theme, blank, palette
from engram_interp.views.token_maps import TOKEN_AXIS
from engram_interp.views.tokens import plain_label, plotly_text

_MARKED = 60  # tokens; on more, markers hide the lines


def runs_table(runs: Mapping[str, xr.Dataset]) -> Html:
    """The effect of several ablations of one text on the prediction after their token, beside both controls.

    Args:
        runs: by name: kl[condition, token] and answer_logprob[condition] in nats, token_index; where the
            controls were drawn several times control_kl[control, draw, token].
    """
    rows: list[list[Cell]] = []
    for name, data in runs.items():
        at = data["kl"].sel(token=int(data["token_index"]))
        answer = data["answer_logprob"]
        moved = answer - answer.sel(condition="intact")
        for condition in ("ablated", *draws.CONTROLS):
            change = float(moved.sel(condition=condition))
            shown: Cell = Missing(reason="no answer was given") if np.isnan(change) else Change(value=change)
            who = name if condition == "ablated" else f"· control: {condition}"
            drawn = None if condition == "ablated" else draws.values(data, condition)
            rows.append([who, float(at.sel(condition=condition)), _drawn(drawn, condition), shown])
    headers = [
        "run",
        "KL(intact ‖ changed) (nats)",
        "every draw of the control (nats)",
        "Δ log p of the intact answer (nats)",
    ]
    caption = (
        "Two ablations of one text, each with its controls, whose first draw is shown beside the range of "
        "all; one prompt, so no interval is possible."
    )
    return table(headers, rows, caption=caption)


def _drawn(values: npt.NDArray[np.float64] | None, condition: str) -> Cell:
    if values is not None:
        return draws.between(values)
    return "" if condition == "ablated" else Missing(reason="each control was drawn once")


def runs_by_token(runs: Mapping[str, xr.Dataset], *, theme: Theme = "light") -> go.Figure:
    """KL to the intact prediction by token, one line a run and a thin one for its random rows.

    Args:
        runs: two by name: kl[condition, token] in nats, token_index, and token_text[token] where there is
            one.
        theme: light or dark.
    """
    first = next(iter(runs.values()))
    length = first.sizes["token"]
    begins = [at for data in runs.values() if (at := marks.changed_from(data)) is not None]
    looked_at = min(int(data["token_index"]) for data in runs.values())
    start, stop = marks.window(length, looked_at, first=min(begins, default=None))
    figure = blank(
        title="The two runs by token",
        subtitle=f"{marks.zoomed_of(start, stop, length)}thin: the same reads from random rows",
        x=TOKEN_AXIS,
        y="KL(intact ‖ changed) (nats)",
        theme=theme,
        height=400,
    )
    colours = palette(theme)
    for (name, data), colour, dash in zip(
        runs.items(), (colours.engram, colours.baseline), ("solid", "dash"), strict=True
    ):
        tokens = [str(token) for token in data["token_text"].values] if "token_text" in data else []
        for condition, width, opacity in (("ablated", 2.5, 1.0), ("random rows", 1.2, 0.6)):
            figure.add_trace(
                go.Scatter(
                    x=data["token"].values,
                    y=data["kl"].sel(condition=condition).values,
                    mode="lines+markers" if condition == "ablated" and len(tokens) <= _MARKED else "lines",
                    name=plain_label(name),
                    showlegend=condition == "ablated",
                    opacity=opacity,
                    line={"width": width, "color": colour, "dash": dash},
                    text=[plotly_text(token) for token in tokens] or None,
                    hovertemplate=f"token %{{x}} %{{text}}<br>{condition} %{{y:.3f}} nats<extra></extra>",
                )
            )
    if "token_text" in first:
        marks.label_tokens(figure, [str(t) for t in first["token_text"].values[start:stop]], first=start)
    figure.update_xaxes(range=[start - 0.5, stop - 0.5])
    shown = [data["kl"].isel(token=slice(start, stop)) for data in runs.values()]
    drawn = [float(one.sel(condition=["ablated", "random rows"]).max()) for one in shown]
    highest = max(drawn) or 1.0
    figure.update_yaxes(rangemode="tozero", range=[0, 1.06 * highest] if stop - start < length else None)
    return figure


def on_one_scale(figures: Sequence[go.Figure]) -> None:
    """Give figures of one kind the same ranges, so that a length means the same in each; changes them.

    Only axes that measure are shared (KL, shifts, costs); those that count rows or name layers stay.
    """
    for axis, error in (("x", "error_x"), ("y", "error_y")):
        bounds = [_bounds(figure, axis, error) for figure in figures]
        known = [bound for bound in bounds if bound is not None]
        if len(known) != len(figures) or any(_names(figure, axis) for figure in figures):
            continue
        low, high = min(b[0] for b in known), max(b[1] for b in known)
        room = 0.04 * (high - low) or 1.0
        for figure in figures:
            figure.update_layout({f"{axis}axis": {"range": [low - room, high + room]}})


def _names(figure: go.Figure, axis: str) -> bool:
    """Whether an axis names things: it has ticks of its own, a fixed range, or a logarithmic scale."""
    found = figure.layout[f"{axis}axis"]
    return found.tickvals is not None or found.range is not None or found.type == "log"


def _bounds(figure: go.Figure, axis: str, error: str) -> tuple[float, float] | None:
    """The least and the greatest value drawn along an axis, whiskers included."""
    values: list[float] = []
    for trace in figure.data:
        if trace.type not in {"scatter", "bar"} or trace[axis] is None:
            continue
        try:
            drawn = np.asarray(trace[axis], dtype=float)
        except (TypeError, ValueError):
            return None
        bars = trace[error]
        up = np.asarray(bars.array if bars.array is not None else 0.0, dtype=float)
        down = np.asarray(bars.arrayminus if bars.arrayminus is not None else up, dtype=float)
        values += [*np.ravel(drawn + np.nan_to_num(up)), *np.ravel(drawn - np.nan_to_num(down))]
    finite = [value for value in values if np.isfinite(value)]
    return (min(finite), max(finite)) if finite else None


def depth_numbers(models: Mapping[str, xr.Dataset]) -> Html:
    """The headline shift of several depth maps beside their internal controls.

    Args:
        models: by name: headline and control_shift with ``_low`` and ``_high``, layers.
    """
    rows: list[list[Cell]] = []
    for name, data in models.items():
        rows.append(
            [
                name,
                *estimate(data, "headline", change=True),
                *estimate(data, "control_shift", change=True),
            ]
        )
    headers = [
        "bundle",
        "shift after the first read (layers)",
        "95 % interval",
        "before it: internal control (layers)",
        "95 % interval",
    ]
    return table(headers, rows, caption="Depth, each bundle beside its own control.", digits=2)


def effect_numbers(models: Mapping[str, xr.Dataset]) -> Html:
    """What every ablation costs in several bundles, each beside its random control.

    Args:
        models: by name: delta_loss[kind] with ``_low``, ``_high``, and the same prefixed ``control_``.
    """
    kinds = list(dict.fromkeys(str(kind) for data in models.values() for kind in data["kind"].values))
    rows: list[list[Cell]] = []
    for kind in kinds:
        for name, data in models.items():
            if kind not in data["kind"].values:
                why = Missing(reason=f"{name} has no such ablation")
                rows.append([kind, name, why, why, why, why])
                continue
            at = data.sel(kind=kind)
            both = [
                *estimate(at, "delta_loss", change=True),
                *estimate(at, "control_delta_loss", change=True),
            ]
            rows.append([kind, name, *both])
    headers = [
        "ablation",
        "bundle",
        "Δ loss (nats)",
        "95 % interval",
        "control Δ loss (nats)",
        "95 % interval",
    ]
    return table(headers, rows, caption="What each ablation costs, each beside its random control.")


def loss_numbers(models: Mapping[str, xr.Dataset]) -> Html:
    """Loss and entropy of the final prediction of several models.

    Args:
        models: by name: next_loss[layer] and entropy[layer] in nats.
    """
    rows = [
        [name, *estimate(data.isel(layer=-1), "next_loss"), measured(data["entropy"].isel(layer=-1))]
        for name, data in models.items()
    ]
    headers = ["bundle", "loss on the next token (nats)", "95 % interval", "entropy (nats)"]
    caption = (
        "The final prediction on the prompts of each bundle, after every token but the separator; the loss "
        "that an ablation is measured from counts the prediction after the separator too."
    )
    return table(headers, rows, caption=caption)

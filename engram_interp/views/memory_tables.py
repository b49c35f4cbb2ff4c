"""Tables about the memory: what gates tell apart, by how often training saw an n-gram, what is left.

Every number stands with its interval in the cell beside it, and beside its null or control.
"""

import numpy as np
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views.marks import reason
from engram_interp.views.markup import Html
from engram_interp.views.tables import Cell, Change, Missing, Token, estimate, interval, measured, table
from engram_interp.views.tokens import shortened, visible

_PLACE = ["layer (from 0)", "stream"]
_INTERVAL = "95 % interval"
_UNTRAINED = "untrained range"
_STREAMS = 4  # gates of more streams do not fit beside each other
_WITHOUT = {
    "intact": "intact_score",
    "intact, prompts swapped": "swapped_score",
    "baseline without memory": "baseline_score",
}


def initialisation_table(data: xr.Dataset) -> Html:
    """Where the gates' statistics stand among those of fresh initialisations, one row a layer and stream.

    Args:
        data: observed, init_low, init_high [statistic, layer, stream], untrained_p [layer, stream].
    """
    names = {"mean": "mean", "sd": "sd", "fraction_open": "share > 0.5"}
    headers = [*_PLACE]
    for title in names.values():
        headers += [title, "95 % of initialisations"]
    rows: list[list[Cell]] = []
    for at in _cells(data):
        row: list[Cell] = [int(at["layer"]), int(at["stream"])]
        for name in names:
            one = at.sel(statistic=name)
            row += [measured(one["observed"]), interval(one, "init")]
        rows.append([*row, measured(at["untrained_p"])])
    caption = "The gates among fresh initialisations of the same module, on the same prompts. No unit."
    return table([*headers, "p, all statistics together"], rows, caption=caption)


def contrast_table(data: xr.Dataset) -> Html:
    """How well each gate tells own rows from others', and entity ends from the rest.

    Args:
        data: conflict_auc and conflict_wins [other, layer, stream], n_pairs [other, layer],
            entity_auc [layer, stream], n_entity_ends; intervals and, of the AUCs, the range of untrained
            gates (``null_``).
    """
    rows: list[list[Cell]] = []
    for other in data["other"].values:
        for at in _cells(data.sel(other=other)):
            auc = [*estimate(at, "conflict_auc"), interval(at, "null_conflict_auc")]
            wins = estimate(at, "conflict_wins")
            rows.append([f"own rows vs {other}", *_where(at), int(at["n_pairs"]), *auc, *wins])
    for at in _cells(data):
        auc = [*estimate(at, "entity_auc"), interval(at, "null_entity_auc")]
        rows.append(["entity ends vs the rest", *_where(at), int(at["n_entity_ends"]), *auc, "", ""])
    headers = ["the gate on", *_PLACE, "tokens", "AUC", _INTERVAL, _UNTRAINED, "share own wins", _INTERVAL]
    return table(
        headers, rows, caption="AUC of the gate, beside untrained gates; 0.5: no preference. No unit."
    )


def information_table(data: xr.Dataset) -> Html:
    """What each gate tells of its token, beside untrained and permuted gates.

    Args:
        data: information [feature, layer, stream] with its interval and ``null_``, permuted_p, correlation
            with its interval, n_tokens [feature].
    """
    rows: list[list[Cell]] = []
    for feature in data["feature"].values:
        for at in _cells(data.sel(feature=feature)):
            told = [
                *estimate(at, "information"),
                interval(at, "null_information"),
                measured(at["permuted_p"]),
            ]
            rows.append([str(feature), *_where(at), int(at["n_tokens"]), *told, *estimate(at, "correlation")])
    headers = ["what the token is", *_PLACE, "tokens", "information (nats)", _INTERVAL, _UNTRAINED]
    caption = "Mutual information of gate and token; ρ: Spearman's, of what is ordered."
    return table([*headers, "permuted p", "ρ", _INTERVAL], rows, caption=caption)


def reads_table(data: xr.Dataset, *, token: int) -> Html:
    """What one token read, one line a memory layer and n-gram: gates, share of the value, count in training.

    Args:
        data: gate[token, layer, stream], share[token, layer, column], order[column],
            ngram[token, order_index], token_text[token], and where the n-grams were counted
            count[token, order_index].
        token: position, counted from 0.
    """
    if token not in data["token"].values:
        raise InputError(f"There is no token {token}; tokens are 0 to {data.sizes['token'] - 1}.")
    chosen = data.sel(token=token)
    counted = "count" in data and bool(data["count"].notnull().any())
    streams = data["stream"].values.tolist()
    apart = len(streams) <= _STREAMS
    rows: list[list[Cell]] = []
    for layer in data["layer"].values.tolist():
        gates = chosen["gate"].sel(layer=layer)
        shown = [measured(gates.sel(stream=s)) for s in streams] if apart else [measured(gates.max("stream"))]
        for order in data["order_index"].values.tolist():
            share = (
                chosen["share"].sel(layer=layer).isel(column=np.flatnonzero(data["order"].values == order))
            )
            ngram = chosen["ngram"].sel(order_index=order).item()
            own = [measured(chosen["count"].sel(order_index=order))] if counted else []
            whole = Change(value=float(share.sum(skipna=False)))
            value: Cell = Missing(reason=reason(data["share"])) if np.isnan(whole.value) else whole
            rows.append([layer, *shown, Token(text=str(ngram)), value, *own])
    names = [f"gate, stream {s}" for s in streams] if apart else [f"largest gate of {len(streams)} streams"]
    headers = [
        "layer (from 0)",
        *(["gate"] if len(streams) == 1 else names),
        "n-gram (canonical)",
        "share of |value|²",
        *(["seen in training"] if counted else []),
    ]
    text = shortened(visible(str(chosen["token_text"].item())))
    return table(headers, rows, caption=f"Memory read at token {token} {text}, by layer and n-gram.")


def strata_table(data: xr.Dataset) -> Html:
    """The mean gate by how often training saw the n-gram, rarest first.

    Args:
        data: stratum_gate [stratum, layer, stream] with its interval, stratum_tokens [stratum, layer].
    """
    rows: list[list[Cell]] = [
        [*_where(at), str(at["stratum"].item()), int(at["stratum_tokens"]), *estimate(at, "stratum_gate")]
        for cell in _cells(data)
        for at in (cell.sel(stratum=stratum) for stratum in data["stratum"].values)
    ]
    by = str(data.attrs.get("strata", "training hits of its rows"))
    headers = [*_PLACE, "times in training", "tokens", "mean gate", _INTERVAL]
    caption = f"Mean gate by how often training saw the longest n-gram ({by}). No unit."
    return table(headers, rows, caption=caption)


def usefulness_table(data: xr.Dataset) -> Html:
    """What shutting a gate costs at one token, and how well the gate foretells a cost.

    Args:
        data: mean_delta and useful [layer], auc [layer, stream]; intervals and the untrained range of auc.
    """
    rows: list[list[Cell]] = []
    for at in _cells(data):
        costs = [*estimate(at, "mean_delta", change=True), *estimate(at, "useful")]
        rows.append([*_where(at), *costs, *estimate(at, "auc"), interval(at, "null_auc")])
    headers = [*_PLACE, "Δ loss (nats)", _INTERVAL, "share with a cost", _INTERVAL]
    caption = (
        "One layer's gate shut at one token: the change of that token's loss, and the gate as its predictor."
    )
    return table([*headers, "AUC", _INTERVAL, _UNTRAINED], rows, caption=caption)


def effect_strata_table(data: xr.Dataset) -> Html:
    """What each ablation costs by how often training saw the n-gram read before the token; strata across.

    Args:
        data: stratum_delta_loss [stratum, kind] and the same of the control, stratum_baseline_delta_loss and
            stratum_tokens [stratum], with intervals.
    """
    strata = [data.sel(stratum=stratum) for stratum in data["stratum"].values]
    strata = [at for at in strata if int(at["stratum_tokens"])]
    headers = ["Δ loss (nats)"]
    for at in strata:
        headers += [f"{at['stratum'].item()} times, {int(at['stratum_tokens']):,} tokens", _INTERVAL]

    def cells(name: str, at: xr.Dataset) -> list[Cell]:
        return estimate(at, f"stratum_{name}", change=True)

    rows: list[list[Cell]] = []
    if not np.isnan(data["stratum_baseline_delta_loss"]).all():
        rows.append(
            [
                "baseline, never had a memory",
                *(c for at in strata for c in cells("baseline_delta_loss", at)),
            ]
        )
    for kind in data["kind"].values:
        for name, label in (("delta_loss", str(kind)), ("control_delta_loss", "· control")):
            rows.append([label, *(c for at in strata for c in cells(name, at.sel(kind=kind)))])
    by = str(data.attrs.get("strata", "training hits of its rows"))
    return table(headers, rows, caption=f"Change of the loss by how often training saw the n-gram ({by}).")


def retained_table(data: xr.Dataset, *, probe_set: str) -> Html:
    """All probes of one set: each ablation's score and retained share, and below it its random control's.

    Args:
        data: score, retained, delta_log_p [probe_set, stratum, kind] and the same ``control_``;
            intact_score, baseline_score, baseline_retained, chance, n_items [probe_set, stratum].
        probe_set: which set.
    """
    at = data.sel(probe_set=probe_set, stratum="all")
    rows: list[list[Cell]] = [["intact", *estimate(at, "intact_score"), "", "", "", ""]]
    if "swapped_score" in at and not np.isnan(at["swapped_score"]):
        rows.append(["intact, prompts swapped", *estimate(at, "swapped_score"), "", "", "", ""])
    if not np.isnan(at["baseline_score"]):
        beside = [*estimate(at, "baseline_score"), *estimate(at, "baseline_retained")]
        rows.append(["baseline without memory", *beside, "", ""])
    for kind in data["kind"].values:
        for arm, label in (("", str(kind)), ("control_", "· control")):
            one = at.sel(kind=kind)
            shares = [*estimate(one, f"{arm}score"), *estimate(one, f"{arm}retained")]
            rows.append([label, *shares, *estimate(one, f"{arm}delta_log_p", change=True)])
    headers = ["ablation", "share right", _INTERVAL, "retained", _INTERVAL, "Δ log p (nats)", _INTERVAL]
    caption = (
        f"{probe_set}, {int(at['n_items'])} probes; chance {float(at['chance']):.3f}. Retained: share of the "
        "intact score above chance that is left. Δ log p: of the right choice."
    )
    return table(headers, rows, caption=caption)


def retained_strata_table(data: xr.Dataset, *, probe_set: str) -> Html:
    """Scores of one set by how often training saw the n-gram that ends the prompt; strata across.

    Args:
        data: as for `retained_table`.
        probe_set: which set.
    """
    one = data.sel(probe_set=probe_set)
    strata = [one.sel(stratum=stratum) for stratum in data["stratum"].values if stratum != "all"]
    strata = [at for at in strata if int(at["n_items"])]
    headers = ["share right"]
    for at in strata:
        headers += [f"{at['stratum'].item()} times, {int(at['n_items'])} probes", _INTERVAL]
    rows: list[list[Cell]] = [["chance", *(cell for at in strata for cell in (measured(at["chance"]), ""))]]
    for label, name in _WITHOUT.items():
        if name in one and not np.isnan(one[name].sel(stratum="all")):
            rows.append([label, *(cell for at in strata for cell in estimate(at, name))])
    for kind in data["kind"].values:
        for name, label in (("score", str(kind)), ("control_score", "· control")):
            rows.append([label, *(cell for at in strata for cell in estimate(at.sel(kind=kind), name))])
    by = str(data.attrs.get("strata", "training hits of its rows"))
    caption = f"{probe_set} by how often training saw the n-gram that ends the prompt ({by})."
    return table(headers, rows, caption=caption)


def _cells(data: xr.Dataset) -> list[xr.Dataset]:
    return [
        data.isel(layer=layer, stream=stream)
        for layer in range(data.sizes["layer"])
        for stream in range(data.sizes["stream"])
    ]


def _where(at: xr.Dataset) -> list[Cell]:
    return [int(at["layer"]), int(at["stream"])]

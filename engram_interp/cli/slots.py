"""``engram-interp slots``: which rows of the memory a text reads."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from engram_interp.errors import InputError

if TYPE_CHECKING:
    from engram_interp.checkpoints import SubjectModel
    from engram_interp.results import SlotLookup
    from engram_interp.slots_index import SlotIndex

Neighbours = dict[tuple[int, int], tuple[int, int, list[tuple[str, int]]]]
"""By layer and address: distinct n-grams, reads, and the two most frequent n-grams with their counts."""

EXAMPLE = """\b
Examples:
  engram-interp slots wiki-nano --text "President of the United States"
  engram-interp slots wiki-nano --text "President of the United States" --token -1 --layer 4
  engram-interp slots runs/mine --ids 0,312,77 --json > slots.json
  engram-interp slots planted --text "nax yod zor vel"
  engram-interp slots wiki-nano --text "United States" --index wiki.index
  engram-interp slots DeepSeek-V4.1-Flash --text "Only Alexander the Great"
  engram-interp slots DIR --text "…" --tables hf://deepseek-ai/DeepSeek-V4.1-Flash"""

_SHOWN = 6
"""Tokens in a table where none is named."""
_PER_SLOT = ("address", "row_norm", "share", "hits")


def slots(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model directory, or a packaged pair's name; of DeepSeek-V4.1 a directory, "
            "https:// address or hf://OWNER/NAME with config.json and tokenizer.json is enough.",
        ),
    ],
    *,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="One prompt; the model's separator is put before it.")
    ] = None,
    ids: Annotated[
        str | None, typer.Option(metavar="IDS", help="Token ids with commas between, taken as they are.")
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="An index of a text (engram-interp index): who else lives there."),
    ] = None,
    token: Annotated[
        int | None, typer.Option(metavar="N", help="Only this token; negative counts from the end.")
    ] = None,
    layer: Annotated[int | None, typer.Option(metavar="N", help="Only this memory layer.")] = None,
    tables: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Of DeepSeek-V4.1: where rows are read from, if not from MODEL; a directory with the "
            "tables' shards, or an address, of which each row is read by an HTTP range request.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Show what every token of a prompt reads from the memory.

    For each token, memory layer, order and head: the canonical n-gram, the address (absolute row of the
    layer's table), the row's norm, its hits in training, and its signed share of the value vector.
    With --index also the row's distinct n-grams in the indexed text, and the most frequent other one.
    DeepSeek-V4.1 is not run: its addresses follow from two small files, and with the tables' shards, or
    --tables, rows are read one by one (264 bytes each). Gates and shares are then not known.
    Layers and tokens count from 0. The table shows the last 6 tokens where none is named. The JSON holds
    the same as arrays [token][layer][column] and as records, one a slot; null is what is not known.
    """
    if (text is None) == (ids is None):
        raise typer.BadParameter("give either --text or --ids, not both and not none.")
    if text == "":
        raise InputError("The prompt is empty; give at least one character of text.")
    prompt: Any = text if ids is None else _parsed(ids)
    from engram_interp.slots import open_index

    subject, found = _found(model, prompt, tables)
    opened = None if index is None else open_index(index, subject)
    found = _chosen(found, token, layer)
    if not as_json and token is None:
        found = _last(found)
    others = {} if opened is None else neighbours(subject, opened, found)
    if notes := str(found.data.attrs.get("notes", "")):
        typer.echo(notes, err=True)
    if as_json:
        typer.echo(json.dumps(as_object(found, others), ensure_ascii=False, allow_nan=False))
    else:
        typer.echo("\n".join(as_lines(found, others)))


def _chosen(found: "SlotLookup", token: int | None, layer: int | None) -> "SlotLookup":
    """One token, one layer, or all of them."""
    from engram_interp.results import SlotLookup

    data, length = found.data, found.data.sizes["token"]
    if token is not None and not -length <= token < length:
        raise InputError(f"--token {token} lies outside the prompt, whose tokens run from 0 to {length - 1}.")
    layers = data["layer"].values.tolist()
    if layer is not None and layer not in layers:
        raise InputError(f"Layer {layer} reads no memory; layers that do: {layers}.")
    data = data if token is None else data.isel(token=[token % length])
    return SlotLookup(data=data if layer is None else data.sel(layer=[layer]))


def _last(found: "SlotLookup") -> "SlotLookup":
    """The last tokens, and a line on what is left out."""
    from engram_interp.results import SlotLookup

    left_out = found.data.sizes["token"] - _SHOWN
    if left_out <= 0:
        return found
    typer.echo(
        f"Tokens 0 … {left_out - 1} are left out; name one with --token, or take all of them with --json.",
        err=True,
    )
    return SlotLookup(data=found.data.isel(token=slice(left_out, None)))


def _found(place: str, prompt: Any, tables: str | None) -> "tuple[SubjectModel, SlotLookup]":
    """The model and what it looks up: a run of it, or of DeepSeek-V4.1 its address book."""
    from engram_interp import slots
    from engram_interp.checkpoints import address_book, load_model, table_rows

    if not address_book.is_book(place):
        if tables is not None:
            raise InputError(
                f"--tables is for DeepSeek-V4.1, whose rows lie outside the model; {place} is not."
            )
        model = load_model(place)
        return model, slots.lookup(model, prompt)
    book = address_book.open_addresses(place)
    at_hand = tables is not None or table_rows.has_tables(book)
    opened = table_rows.open_tables(book, tables) if at_hand else None
    return book.model, slots.addresses(book, prompt, tables=opened)


def _parsed(ids: str) -> list[int]:
    try:
        return [int(part) for part in ids.split(",")]
    except ValueError as cause:
        raise typer.BadParameter(f"--ids wants whole numbers with commas between, got {ids!r}.") from cause


def neighbours(model: "SubjectModel", index: "SlotIndex", found: "SlotLookup") -> Neighbours:
    """For every row that was read: its n-grams in the indexed text, and the most frequent ones' names."""
    from engram_interp.slots import occupants

    out: Neighbours = {}
    for record in records(found):
        place = (record["layer"], record["address"])
        if place not in out:
            data = occupants(model, index, layer=place[0], address=place[1], most=2).data
            names = zip(data["ngram"].values.tolist(), data["count"].values.tolist(), strict=True)
            out[place] = (int(data["ngrams"]), int(data["occurrences"]), list(names))
    return out


def _lives(record: dict[str, Any], others: Neighbours) -> dict[str, Any]:
    """What an index adds to a record: n-grams and reads of its row, and the most frequent other n-gram."""
    if not others:
        return {}
    ngrams, reads, names = others[record["layer"], record["address"]]
    other = next(((name, count) for name, count in names if name != record["ngram"]), (None, None))
    return {"row_ngrams": ngrams, "row_reads": reads, "other": other[0], "other_count": other[1]}


def records(found: "SlotLookup") -> list[dict[str, Any]]:
    """One flat record a token, memory layer and column, in this order."""
    data = found.data
    return [
        {
            "token": int(token["token"]),
            "token_text": str(token["token_text"].item()),
            "layer": int(slot["layer"]),
            "order": int(slot["order"]),
            "head": int(slot["head"]),
            "ngram": str(token["ngram"].sel(order_index=int(slot["order"])).item()),
            "address": int(slot["address"]),
            **{name: _plain(slot[name].item()) for name in _PER_SLOT[1:]},
        }
        for token in (data.isel(token=t) for t in range(data.sizes["token"]))
        for layer in (token.isel(layer=i) for i in range(data.sizes["layer"]))
        for slot in (layer.isel(column=c) for c in range(data.sizes["column"]))
    ]


def as_object(found: "SlotLookup", others: Neighbours) -> dict[str, Any]:
    """Everything of a look-up as JSON values; NaN becomes null."""
    data = found.data
    arrays = {name: _nested(data[name].values) for name in (*_PER_SLOT, "share_bias", "gate")}
    return {
        "model": data.attrs.get("model"),
        "model_digest": data.attrs.get("model_digest"),
        "layers": data["layer"].values.tolist(),
        "orders": data["order"].values.tolist(),
        "heads": data["head"].values.tolist(),
        "token_ids": data["token_id"].values.tolist(),
        "token_texts": [str(text) for text in data["token_text"].values],
        **{
            name: data[name].values.tolist()
            for name in ("dead", "table_bytes", "scale_bytes")
            if name in data
        },
        "axes": {
            **{name: ["token", "layer", "column"] for name in _PER_SLOT},
            "share_bias": ["token", "layer"],
            "gate": ["token", "layer", "stream"],
        },
        **arrays,
        "records": [record | _lives(record, others) for record in records(found)],
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nested(values: np.ndarray) -> Any:
    if values.dtype.kind != "f":
        return values.tolist()
    whole = values.astype(object)
    whole[np.isnan(values)] = None
    return whole.tolist()


def as_lines(found: "SlotLookup", others: Neighbours) -> list[str]:
    """A table for reading: one row a slot, one block a token and layer."""
    from engram_interp.views.theme import number, signed
    from engram_interp.views.tokens import visible

    headers = ["token", "", "layer", "n", "head", "n-gram (canonical)", "address", "norm", "hits", "share"]
    headers += ["n-grams", "most frequent other"] if others else []
    rows = []
    for r in records(found):
        hits = "—" if r["hits"] is None else f"{int(r['hits']):,}"
        share = "—" if r["share"] is None else signed(r["share"])
        norm = "—" if r["row_norm"] is None else number(r["row_norm"])
        ends = [str(r["address"]), norm, hits, share]
        place = [str(r["token"]), visible(r["token_text"]), str(r["layer"]), str(r["order"]), str(r["head"])]
        lives = _lives(r, others)
        if lives:
            other = "—" if lives["other"] is None else f"{visible(lives['other'])} ({lives['other_count']:,})"
            ends += [f"{lives['row_ngrams']:,}", other]
        rows.append([*place, visible(r["ngram"]), *ends])
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    left = {1, 5, 11}
    lines = [
        "  ".join(
            text.ljust(w) if i in left else text.rjust(w)
            for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headers, *rows)
    ]
    return [found.summary(), "", *lines, "", "share: signed part of |value|²; — not known, or of nothing"]

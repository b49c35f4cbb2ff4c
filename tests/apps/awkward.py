"""A bundle of texts that try a page: markup, direction marks, broken bytes, no end of letters or tokens."""

import numpy as np

from engram_interp.results import GateReading, LensTable, Result, SlotLookup

WORDS = [
    "<|endoftext|>",
    '<img src=x onerror="window.hit=1">',
    " <script>window.hit=1</script>",
    "\u202eevil\u202c",
    "\u05e9\u05dc\u05d5\u05dd",
    "😀\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "\udce2\udc82",
    "x" * 10_000,
    "\n",
    "[a](javascript:window.hit=1) **b** $c$ :red[d]",
]
LONG = 4_000


def parts(long: int = LONG) -> dict[str, Result]:
    """Gates, slots and lens of “awkward”, ten tokens, and of “long”, as many as asked for."""
    names = ["awkward", "long"]
    texts = {"awkward": WORDS, "long": [f" w{index % 97}" for index in range(long)]}
    counts = [len(texts[name]) for name in names]
    gate = np.full((2, 2, 1, long), np.nan)
    ids = np.full((2, long), -1)
    shown = np.full((2, long), "", dtype=object)
    for row, name in enumerate(names):
        gate[row, :, 0, : counts[row]] = np.random.default_rng(row).uniform(0, 1, (2, counts[row]))
        ids[row, : counts[row]] = np.arange(counts[row]) % 97
        shown[row, : counts[row]] = texts[name]
    found: dict[str, Result] = {
        "gates": GateReading.from_arrays(
            coords={"layer": [1, 3]},
            variables={"gate": gate, "token_id": ids, "token_text": shown, "prompt_id": names,
                       "prompt_text": ["".join(texts[name]) for name in names]},
            provenance={"model": "awkward"},
        )
    }  # fmt: skip
    for name in names:
        found[f"slots:{name}"] = _slots(texts[name])
        found[f"lens-table:{name}"] = _lens(texts[name])
    return found


def _slots(tokens: list[str]) -> SlotLookup:
    count, shape = len(tokens), (len(tokens), 2, 4)
    rng = np.random.default_rng(7)
    before = ["", *tokens[:-1]]
    return SlotLookup.from_arrays(
        coords={"layer": [1, 3], "order_index": [2, 3]},
        variables={"address": rng.integers(0, 10**9, shape), "row_norm": rng.uniform(0.5, 2, shape),
                   "share": np.full(shape, 0.25), "hits": np.full(shape, np.nan),
                   "share_bias": np.zeros((count, 2)), "order": [2, 2, 3, 3], "head": [0, 1, 0, 1],
                   "ngram": [[f"{b}|{t}"] * 2 for b, t in zip(before, tokens, strict=True)],
                   "token_id": np.arange(count) % 97, "token_text": tokens,
                   "gate": rng.uniform(0, 1, (count, 2, 1))},
        provenance={"model": "awkward"},
    )  # fmt: skip


def _lens(tokens: list[str]) -> LensTable:
    layers, ranks, count = 3, 2, len(tokens)
    rng = np.random.default_rng(9)
    words = [word for word in WORDS if len(word) < 100 or count < 100]
    top = rng.integers(0, len(words), (layers, count, ranks))
    kl = np.sort(rng.uniform(0, 9, (layers, count)), axis=0)[::-1].copy()
    kl[-1] = 0
    move = np.zeros((layers, count))
    move[0] = np.nan
    return LensTable.from_arrays(
        coords={"layer": np.arange(layers)},
        variables={"top_id": top, "top_token": np.array(words, dtype=object)[top],
                   "top_logprob": -np.sort(rng.exponential(1.0, (layers, count, ranks)), axis=-1), "kl": kl,
                   "entropy": kl + 0.5, "final_rank": np.zeros((layers, count), int), "rank_move": move,
                   "token_id": np.arange(count) % 97, "token_text": tokens},
        provenance={"model": "awkward", "lens": "raw logit lens"},
    )  # fmt: skip

"""The weights of the planted model, and the plan they are written from (see `engram_interp.planted`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from engram_interp.checkpoints.native import map_digest, subject_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.memory import counts as ngram_counts
from engram_interp.memory import hashing
from engram_interp.memory.config import EngramConfig
from engram_interp.memory.hashing import Layout
from engram_interp.memory.module import Engram
from engram_interp.model.config import ModelConfig
from engram_interp.model.transformer import HookedEngramTransformer

TOPICS = ("mare", "bosk")
# fmt: off
WORDS = (
    *TOPICS,
    "zor", "vel", "kal", "mun", "tiv", "pex", "oru", "dal", "bim", "sor",
    "fen", "lak", "ruo", "wim", "jat", "gol", "hep", "nax", "yod", "cev",
    "amri", "besto", "culo", "dapi", "elko", "fimu", "gora", "huni",
)
# fmt: on
_SPECIAL = ("<|endoftext|>", "<unk>")
VOCABULARY = (*_SPECIAL, *WORDS, *(f" {word}" for word in WORDS))
ON = len(VOCABULARY)
TOPIC_AT = {topic: ON + 1 + i for i, topic in enumerate(TOPICS)}
WIDTH = 4 * math.ceil((ON + 1 + len(TOPICS)) / 4)
_HEADS = 2
_SHARPNESS = 30.0
"""Attention score of a topic word above any other's: what leaks to the others is below 1e-11."""
GAIN = 4.0
"""Weight of both norms of the gate, which makes it decided: with 1 no gate could pass 0.95 here."""
_RIGHT_WORD, _ALWAYS, _WRONG_TOPIC = 2.0, -1.0, -3.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A fact as it is meant; `place` is its place in a row."""

    before: str
    words: tuple[str, ...]
    target: str
    layer: int
    place: int
    heads: tuple[int, ...]
    shares: tuple[float, ...]
    strength: float
    hits: int
    topic: str | None = None

    @property
    def columns(self) -> tuple[int, ...]:
        """Columns of the layer that it is written in."""
        return tuple((len(self.words) - 2) * memory_config().heads + head for head in self.heads)

    @property
    def against(self) -> str | None:
        """The topic that contradicts it."""
        return None if self.topic is None else next(t for t in TOPICS if t != self.topic)


_ALL, _THIRDS = (0, 1, 2), (0.5, 0.25, 0.25)
PLANS = tuple(
    Plan(
        before=before,
        words=tuple(words.split()),
        target=target,
        layer=layer,
        place=place,
        heads=heads,
        shares=shares,
        strength=strength,
        hits=hits,
        topic=topic,
    )
    for before, words, target, layer, place, heads, shares, strength, hits, topic in (
        ("nax yod", "zor vel", "amri", 1, 0, _ALL, _THIRDS, 4.0, 200, None),
        ("nax", "kal zor vel", "besto", 1, 1, _ALL, _THIRDS, 8.0, 60, None),  # its bigram is a fact too
        ("yod", "mun tiv", "culo", 1, 2, (1,), (1.0,), 5.0, 20, None),  # one column alone
        ("mare cev", "oru dal", "dapi", 1, 3, (0, 2), (0.5, 0.5), 4.0, 7, "mare"),
        ("cev nax", "fen lak", "elko", 2, 0, _ALL, _THIRDS, 4.0, 3, None),
        ("yod", "bim sor wim", "fimu", 2, 1, (2,), (1.0,), 6.0, 1, None),
        ("bosk yod", "pex ruo jat", "gora", 2, 2, _ALL, _THIRDS, 5.0, 0, "bosk"),
        ("nax cev", "gol hep", "huni", 2, 3, (1, 2), (0.75, 0.25), 3.0, 50, None),
    )
)


def memory_config() -> EngramConfig:
    """Two memory layers of three heads and two orders, without a convolution."""
    return EngramConfig(layer_ids=(1, 2), heads=3, d_row=4, rows=251, conv_kernel=0)


def model_config() -> ModelConfig:
    """Four layers; as wide as directions are wanted."""
    return ModelConfig(
        n_layers=4,
        d_model=WIDTH,
        n_heads=_HEADS,
        d_mlp=4,
        d_vocab=len(VOCABULARY),
        n_ctx=64,
        engram=memory_config(),
    )


def _tokenizer() -> Tokenizer:
    """Whole words, with and without the space before them; other words become ``<unk>``."""
    made = Tokenizer(models.WordLevel({text: i for i, text in enumerate(VOCABULARY)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s?[^\s]+"), behavior="isolated")
    made.decoder = decoders.Fuse()
    return made


def token_id(text: str) -> int:
    """The id of a word, as it stands with or without its space."""
    return VOCABULARY.index(text)


@cache
def _hash() -> tuple[Int64[np.ndarray, " d_vocab"], Layout]:
    """The token map and the layout."""
    token_map, count = hashing.token_map(_tokenizer())
    return token_map, memory_config().layout(n_ids=count)


def rows_of(texts: Sequence[str]) -> Int64[np.ndarray, "text layer column"]:
    """Rows that the memory reads at the last word of texts of equal length."""
    token_map, layout = _hash()
    ids = np.array([[token_map[token_id(word)] for word in text.split()] for text in texts])
    return hashing.addresses(ids, layout, pad_id=int(token_map[0]))[:, -1].numpy()


@cache
def rows_holding(plan: Plan) -> tuple[int, ...]:
    """The fact's row in each of its columns, offsets included."""
    rows = rows_of([" ".join(plan.words)])[0, memory_config().layer_ids.index(plan.layer)]
    return tuple(int(rows[column]) for column in plan.columns)


def key_of(plan: Plan) -> Float64[np.ndarray, " d_model"]:
    """The key that the fact's rows give, before the norm."""
    key = np.zeros(WIDTH)
    key[[token_id(plan.words[-1]), token_id(f" {plan.words[-1]}")]] = _RIGHT_WORD
    key[ON] = _ALWAYS
    if plan.against is not None:
        key[TOPIC_AT[plan.against]] = _WRONG_TOPIC
    return key


def build() -> SubjectModel:
    """The planted model, written anew; equal to ``load_model("planted")`` but for the files' digest.

    Its `rebuild` gives an untrained copy with random weights, as any model's does.
    """
    token_map, layout = _hash()
    tokenizer = _tokenizer()
    model = HookedEngramTransformer(model_config(), token_map=token_map, layout=layout, tokenizer=tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embed.weight[:, :ON] = torch.eye(ON)
        model.embed.weight[:, ON] = 1.0
        _write_topics(model)
        for layer in memory_config().layer_ids:
            memory = model.get_submodule(f"blocks.{layer}.engram")
            assert isinstance(memory, Engram)
            _write_facts(memory, [plan for plan in PLANS if plan.layer == layer])
    model.eval().requires_grad_(False)
    hits = {layer: count.numpy().astype(np.int64) for layer, count in training_hits().items()}
    subject = subject_of(model, tokenizer, name="planted", hits=hits)
    return replace(subject, counts=ngram_counts.table(**training_counts()))


def _write_topics(model: HookedEngramTransformer) -> None:
    """Layer 0's first head copies a topic word's mark to every later token."""
    qkv, out = (
        model.get_parameter("blocks.0.attn.qkv.weight"),
        model.get_parameter("blocks.0.attn.out.weight"),
    )
    d_head, eps = model.cfg.d_head, model.cfg.rms_eps
    entry = 1 / math.sqrt(2 / WIDTH + eps)  # of either direction of an embedding after the norm
    weight = math.sqrt(_SHARPNESS * math.sqrt(d_head)) / entry
    slowest = d_head // 2 - 1  # of the rotary pairs: it turns by 0.01 over the whole context
    qkv[slowest, ON] = weight
    for place, topic in enumerate(TOPICS):
        for text in (topic, f" {topic}"):
            qkv[WIDTH + slowest, token_id(text)] = weight
            qkv[2 * WIDTH + place, token_id(text)] = 1 / entry
        out[TOPIC_AT[topic], place] = 1.0


def _write_facts(memory: Engram, plans: list[Plan]) -> None:
    memory.key_norm.weight.fill_(GAIN)
    memory.query_norm.weight.fill_(GAIN)
    width = memory.config.d_row
    for plan in plans:
        for column in range(memory.config.columns):
            memory.value.weight[token_id(f" {plan.target}"), column * width + plan.place] = 1.0
            memory.key.weight[:, column * width + plan.place] = torch.from_numpy(key_of(plan)).float()
        for row, share in zip(rows_holding(plan), plan.shares, strict=True):
            memory.table.weight[row, plan.place] = plan.strength * share


def training_hits() -> dict[int, Tensor]:
    """The hits that stand for training, int32 by memory layer: what reading every fact's prompt would count.

    Each prompt is read as often as its plan's hits say, whole: also the rows of n-grams that hold nothing.
    """
    token_map, layout = _hash()
    rows = zip(memory_config().layer_ids, layout.rows, strict=True)
    counts = {layer: torch.zeros(int(number), dtype=torch.int32) for layer, number in rows}
    for plan, text in zip(PLANS, _read(), strict=True):
        addresses = hashing.addresses(text[None], layout, pad_id=int(token_map[0]))[0]
        for place, layer in enumerate(counts):
            read = addresses[:, place].flatten().long()
            counts[layer] += plan.hits * torch.bincount(read, minlength=len(counts[layer])).int()
    return counts


def _read() -> list[Int64[np.ndarray, " token"]]:
    """What training would have read: every fact's prompt with its n-gram, in canonical ids."""
    token_map, _ = _hash()
    texts = [["<|endoftext|>", *plan.before.split(), *plan.words] for plan in PLANS]
    return [np.array([token_map[token_id(word)] for word in text], np.int64) for text in texts]


def training_counts() -> dict[str, Any]:
    """What `memory.counts.table` takes: the n-grams of every fact's prompt, read as often as its hits say."""
    token_map, layout = _hash()
    n_ids = int(token_map.max()) + 1
    rows = _read()
    keys, counts = dict[int, np.ndarray](), dict[int, np.ndarray]()
    for order in range(1, layout.max_order + 1):
        windows = [np.lib.stride_tricks.sliding_window_view(row, order) for row in rows]
        often = np.repeat([plan.hits for plan in PLANS], list(map(len, windows)))
        found = ngram_counts.keys_of(np.concatenate(windows), n_ids=n_ids)
        keys[order], place = np.unique(found, return_inverse=True)
        counts[order] = np.bincount(place, weights=often).astype(np.int64)
    facts = {
        "tokens": sum(plan.hits * len(row) for plan, row in zip(PLANS, rows, strict=True)),
        "source": "the plan: every fact's prompt, as often as its hits",
        "text_sha256": "none",
        "token_map_sha256": map_digest(token_map),
        "complete": True,
    }
    return {"keys": keys, "counts": counts, "n_ids": n_ids, "facts": facts}

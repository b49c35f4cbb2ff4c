"""A model whose weights are written by hand, so that every instrument has a right answer to find.

Four layers, one stream, no training. The residual has one direction per token, one that is always on
and one per topic word; whatever is not named here is zero:

* Embedding (tied): a token's own direction plus the one that is always on.
* Attention of layer 0, first head: looks at topic words and writes a topic's direction with length 1.
* Memory of layers 1 and 2: each fact writes ``strength · share`` into one row of each of its columns, at
  a place of the row that belongs to the fact alone. The value projection turns that place into the
  direction of the fact's target, the key projection into the fact's key.
* A key asks for the last word of its n-gram (+2), against the direction that is always on (-1) and, for
  some facts, against a topic (-3). So the gate is near 1 at the planted n-gram, and near 0 where another
  last word reads the row or the topic contradicts the fact. Rows without a fact are zero: gate 0.5,
  nothing written.
* Layer 3 and every feed-forward do nothing.

``load_model("planted")`` opens the same model as it ships, from ``assets/models/planted``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
import torch
from jaxtyping import Float64, Int64
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from engram_interp.checkpoints.native import subject_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.memory import hashing
from engram_interp.memory.config import EngramConfig
from engram_interp.memory.hashing import Layout
from engram_interp.memory.module import Engram
from engram_interp.model.config import ModelConfig
from engram_interp.model.transformer import HookedEngramTransformer

__all__ = ["Collision", "Fact", "build", "collisions", "facts", "training_hits"]

_TOPICS = ("mare", "bosk")
# fmt: off
_WORDS = (
    *_TOPICS,
    "zor", "vel", "kal", "mun", "tiv", "pex", "oru", "dal", "bim", "sor",
    "fen", "lak", "ruo", "wim", "jat", "gol", "hep", "nax", "yod", "cev",
    "amri", "besto", "culo", "dapi", "elko", "fimu", "gora", "huni",
)
# fmt: on
_SPECIAL = ("<|endoftext|>", "<unk>")
_VOCABULARY = (*_SPECIAL, *_WORDS, *(f" {word}" for word in _WORDS))
_ON = len(_VOCABULARY)
_TOPIC_AT = {topic: _ON + 1 + i for i, topic in enumerate(_TOPICS)}
_WIDTH = 4 * math.ceil((_ON + 1 + len(_TOPICS)) / 4)
_HEADS = 2
_SHARPNESS = 30.0
"""Attention score of a topic word above any other's: what leaks to the others is below 1e-11."""
_GAIN = 4.0
"""Weight of both norms of the gate, which makes it decided: with 1 no gate could pass 0.95 here."""
_RIGHT_WORD, _ALWAYS, _WRONG_TOPIC = 2.0, -1.0, -3.0


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One n-gram that promotes one token.

    Attributes:
        prompt: A text that ends with the n-gram; the fact is read at its last token.
        ngram: Canonical texts of the n-gram's tokens.
        target: Text of the token that is promoted, the model's first choice after the prompt.
        target_id: Its id.
        layer: Memory layer that holds the fact.
        columns: Columns of that layer that it is written in; every other column holds none of it.
        rows: Its row in each of these columns, offsets included.
        shares: The part of the strength that each of these columns holds; they sum to 1.
        strength: Length of the value vector that the fact writes at gate 1.
        hits: Training hits recorded for its rows.
        gate: The gate at the end of the prompt.
        written_logit: What this fact adds to the target's logit at the end of the prompt, with the final
            norm's scale as it is in that run: gate · strength / scale.
        conflict: A text that ends with the n-gram after a topic that contradicts it; None where the fact
            has no topic.
        conflict_gate: The gate at its end.
    """

    prompt: str
    ngram: tuple[str, ...]
    target: str
    target_id: int
    layer: int
    columns: tuple[int, ...]
    rows: tuple[int, ...]
    shares: tuple[float, ...]
    strength: float
    hits: int
    gate: float
    written_logit: float
    conflict: str | None = None
    conflict_gate: float | None = None


@dataclass(frozen=True, kw_only=True)
class Collision:
    """An n-gram that is no fact and shares one row with one, by the hash alone.

    Attributes:
        prompt: A text that ends with it.
        ngram: Canonical texts of its tokens.
        fact: The fact whose row it reads.
        column: The only column that they share.
        row: The shared row, offsets included.
        gate: The gate there: open if it ends with the fact's last word, shut otherwise.
        written_logit: What it adds to the logit of the fact's target.
    """

    prompt: str
    ngram: tuple[str, ...]
    fact: Fact
    column: int
    row: int
    gate: float
    written_logit: float


@dataclass(frozen=True, kw_only=True)
class _Plan:
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
        return tuple((len(self.words) - 2) * _memory().heads + head for head in self.heads)

    @property
    def against(self) -> str | None:
        return None if self.topic is None else next(t for t in _TOPICS if t != self.topic)


_ALL, _THIRDS = (0, 1, 2), (0.5, 0.25, 0.25)
_PLANS = tuple(
    _Plan(
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


def _memory() -> EngramConfig:
    return EngramConfig(layer_ids=(1, 2), heads=3, d_row=4, rows=251, conv_kernel=0)


def _config() -> ModelConfig:
    return ModelConfig(
        n_layers=4,
        d_model=_WIDTH,
        n_heads=_HEADS,
        d_mlp=4,
        d_vocab=len(_VOCABULARY),
        n_ctx=64,
        engram=_memory(),
    )


def _tokenizer() -> Tokenizer:
    """Whole words, with and without the space before them; other words become ``<unk>``."""
    made = Tokenizer(models.WordLevel({text: i for i, text in enumerate(_VOCABULARY)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s?[^\s]+"), behavior="isolated")
    made.decoder = decoders.Fuse()
    return made


def _token(text: str) -> int:
    return _VOCABULARY.index(text)


@cache
def _hash() -> tuple[Int64[np.ndarray, " d_vocab"], Layout]:
    """The token map and the layout."""
    token_map, count = hashing.token_map(_tokenizer())
    return token_map, _memory().layout(n_ids=count)


def _rows_of(texts: Sequence[str]) -> Int64[np.ndarray, "text layer column"]:
    """Rows that the memory reads at the last word of texts of equal length."""
    token_map, layout = _hash()
    ids = np.array([[token_map[_token(word)] for word in text.split()] for text in texts])
    return hashing.addresses(ids, layout, pad_id=int(token_map[0]))[:, -1].numpy()


@cache
def _rows(plan: _Plan) -> tuple[int, ...]:
    rows = _rows_of([" ".join(plan.words)])[0, _memory().layer_ids.index(plan.layer)]
    return tuple(int(rows[column]) for column in plan.columns)


def _key(plan: _Plan) -> Float64[np.ndarray, " d_model"]:
    key = np.zeros(_WIDTH)
    key[[_token(plan.words[-1]), _token(f" {plan.words[-1]}")]] = _RIGHT_WORD
    key[_ON] = _ALWAYS
    if plan.against is not None:
        key[_TOPIC_AT[plan.against]] = _WRONG_TOPIC
    return key


def build() -> SubjectModel:
    """The planted model, written anew; equal to ``load_model("planted")`` but for the files' digest.

    Its `rebuild` gives an untrained copy with random weights, as any model's does.
    """
    token_map, layout = _hash()
    tokenizer = _tokenizer()
    model = HookedEngramTransformer(_config(), token_map=token_map, layout=layout, tokenizer=tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embed.weight[:, :_ON] = torch.eye(_ON)
        model.embed.weight[:, _ON] = 1.0
        _write_topics(model)
        for layer in _memory().layer_ids:
            memory = model.get_submodule(f"blocks.{layer}.engram")
            assert isinstance(memory, Engram)
            _write_facts(memory, [plan for plan in _PLANS if plan.layer == layer])
    model.eval().requires_grad_(False)
    hits = {layer: count.numpy().astype(np.int64) for layer, count in training_hits().items()}
    return subject_of(model, tokenizer, name="planted", hits=hits)


def _write_topics(model: HookedEngramTransformer) -> None:
    """Layer 0's first head copies a topic word's mark to every later token."""
    qkv, out = (
        model.get_parameter("blocks.0.attn.qkv.weight"),
        model.get_parameter("blocks.0.attn.out.weight"),
    )
    d_head, eps = model.cfg.d_head, model.cfg.rms_eps
    entry = 1 / math.sqrt(2 / _WIDTH + eps)  # of either direction of an embedding after the norm
    weight = math.sqrt(_SHARPNESS * math.sqrt(d_head)) / entry
    slowest = d_head // 2 - 1  # of the rotary pairs: it turns by 0.01 over the whole context
    qkv[slowest, _ON] = weight
    for place, topic in enumerate(_TOPICS):
        for text in (topic, f" {topic}"):
            qkv[_WIDTH + slowest, _token(text)] = weight
            qkv[2 * _WIDTH + place, _token(text)] = 1 / entry
        out[_TOPIC_AT[topic], place] = 1.0


def _write_facts(memory: Engram, plans: list[_Plan]) -> None:
    memory.key_norm.weight.fill_(_GAIN)
    memory.query_norm.weight.fill_(_GAIN)
    width = memory.config.d_row
    for plan in plans:
        for column in range(memory.config.columns):
            memory.value.weight[_token(f" {plan.target}"), column * width + plan.place] = 1.0
            memory.key.weight[:, column * width + plan.place] = torch.from_numpy(_key(plan)).float()
        for row, share in zip(_rows(plan), plan.shares, strict=True):
            memory.table.weight[row, plan.place] = plan.strength * share


def training_hits() -> dict[int, Tensor]:
    """The hits that stand for training, int32 by memory layer: each fact's at its rows, 0 elsewhere."""
    counts = {
        layer: torch.zeros(int(rows), dtype=torch.int32)
        for layer, rows in zip(_memory().layer_ids, _hash()[1].rows, strict=True)
    }
    for plan in _PLANS:
        counts[plan.layer][list(_rows(plan))] = plan.hits
    return counts


def _read(text: str, layer: int) -> dict[_Plan, float]:
    """How much of every fact of a layer is in the rows read at the last word of a text."""
    rows = set(_rows_of([text])[0, _memory().layer_ids.index(layer)].tolist())
    held = {
        plan: plan.strength * sum(s for row, s in zip(_rows(plan), plan.shares, strict=True) if row in rows)
        for plan in _PLANS
        if plan.layer == layer
    }
    return {plan: strength for plan, strength in held.items() if strength}


def _outcome(read: dict[_Plan, float], word: str, topic: str | None) -> tuple[float, float]:
    """The gate, and the final norm's scale, where these facts are read at a word under a topic."""
    hidden = np.zeros(_WIDTH)
    hidden[[_token(f" {word}"), _ON]] = 1.0
    if topic is not None:
        hidden[_TOPIC_AT[topic]] = 1.0
    key = sum((strength * _key(plan) for plan, strength in read.items()), np.zeros(_WIDTH))
    eps = _memory().norm_eps
    query, key = (_GAIN * x / math.sqrt(np.square(x).mean() + eps) for x in (hidden, key))
    score = float(query @ key) / math.sqrt(_WIDTH)
    gate = 1 / (1 + math.exp(-math.copysign(math.sqrt(max(abs(score), 1e-6)), score)))
    for plan, strength in read.items():
        hidden[_token(f" {plan.target}")] += gate * strength
    return gate, math.sqrt(np.square(hidden).mean() + _config().rms_eps)


@cache
def facts() -> tuple[Fact, ...]:
    """Every planted fact with what it must do, computed from the plan and not by running the model."""
    found = []
    for plan in _PLANS:
        prompt = " ".join((plan.before, *plan.words))
        read = _read(prompt, plan.layer)
        gate, scale = _outcome(read, plan.words[-1], plan.topic)
        fact = Fact(
            prompt=prompt,
            ngram=plan.words,
            target=f" {plan.target}",
            target_id=_token(f" {plan.target}"),
            layer=plan.layer,
            columns=plan.columns,
            rows=_rows(plan),
            shares=plan.shares,
            strength=plan.strength,
            hits=plan.hits,
            gate=gate,
            written_logit=gate * plan.strength / scale,
        )
        if plan.topic is not None and plan.against is not None:
            conflict = prompt.replace(plan.topic, plan.against)
            shut = _outcome(read, plan.words[-1], plan.against)[0]
            fact = replace(fact, conflict=conflict, conflict_gate=shut)
        found.append(fact)
    return tuple(found)


@cache
def collisions() -> tuple[Collision, Collision]:
    """Two n-grams that share one row with a fact: one with its last word, one with another.

    They are found by searching the hash: the first of their kind that read nothing else that is planted.
    """
    return _first_collision(same_word=True), _first_collision(same_word=False)


def _first_collision(*, same_word: bool) -> Collision:
    plain = [word for word in _WORDS if word not in _TOPICS]
    planted = [[row for p in _PLANS if p.layer == layer for row in _rows(p)] for layer in _memory().layer_ids]
    for plan, fact in zip(_PLANS, facts(), strict=True):
        ngrams = [
            words
            for words in product(plain, repeat=len(plan.words))
            if words != plan.words and (words[-1] == plan.words[-1]) is same_word
        ]
        prompts = [" ".join(("nax", "cev", *words)) for words in ngrams]
        rows = _rows_of(prompts)
        alone = sum(np.isin(rows[:, i], known).sum(-1) for i, known in enumerate(planted)) == 1
        own = np.isin(rows[:, _memory().layer_ids.index(plan.layer)], _rows(plan))
        found = np.flatnonzero(alone & own.any(-1) & (len(plan.columns) > 1))
        if len(found):
            at = int(found[0])
            column = int(own[at].argmax())
            read = _read(prompts[at], plan.layer)
            gate, scale = _outcome(read, ngrams[at][-1], None)
            return Collision(
                prompt=prompts[at],
                ngram=ngrams[at],
                fact=fact,
                column=column,
                row=fact.rows[fact.columns.index(column)],
                gate=gate,
                written_logit=gate * read[plan] / scale,
            )
    raise AssertionError("no n-gram of the planted words collides with a fact in one row; change the words")

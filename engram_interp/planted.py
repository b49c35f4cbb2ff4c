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
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np

from engram_interp.planted_weights import (
    GAIN,
    ON,
    PLANS,
    TOPIC_AT,
    TOPICS,
    WIDTH,
    WORDS,
    Plan,
    build,
    key_of,
    memory_config,
    model_config,
    rows_holding,
    rows_of,
    token_id,
    training_hits,
)

__all__ = ["Collision", "Fact", "build", "collisions", "facts", "training_hits"]


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
        hits: How often its prompt stands for having been read in training.
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


def _read(text: str, layer: int) -> dict[Plan, float]:
    """How much of every fact of a layer is in the rows read at the last word of a text."""
    rows = set(rows_of([text])[0, memory_config().layer_ids.index(layer)].tolist())
    held = {
        plan: plan.strength
        * sum(s for row, s in zip(rows_holding(plan), plan.shares, strict=True) if row in rows)
        for plan in PLANS
        if plan.layer == layer
    }
    return {plan: strength for plan, strength in held.items() if strength}


def _outcome(read: dict[Plan, float], word: str, topic: str | None) -> tuple[float, float]:
    """The gate, and the final norm's scale, where these facts are read at a word under a topic."""
    hidden = np.zeros(WIDTH)
    hidden[[token_id(f" {word}"), ON]] = 1.0
    if topic is not None:
        hidden[TOPIC_AT[topic]] = 1.0
    key = sum((strength * key_of(plan) for plan, strength in read.items()), np.zeros(WIDTH))
    eps = memory_config().norm_eps
    query, key = (GAIN * x / math.sqrt(np.square(x).mean() + eps) for x in (hidden, key))
    score = float(query @ key) / math.sqrt(WIDTH)
    gate = 1 / (1 + math.exp(-math.copysign(math.sqrt(max(abs(score), 1e-6)), score)))
    for plan, strength in read.items():
        hidden[token_id(f" {plan.target}")] += gate * strength
    return gate, math.sqrt(np.square(hidden).mean() + model_config().rms_eps)


@cache
def facts() -> tuple[Fact, ...]:
    """Every planted fact with what it must do, computed from the plan and not by running the model."""
    found = []
    for plan in PLANS:
        prompt = " ".join((plan.before, *plan.words))
        read = _read(prompt, plan.layer)
        gate, scale = _outcome(read, plan.words[-1], plan.topic)
        fact = Fact(
            prompt=prompt,
            ngram=plan.words,
            target=f" {plan.target}",
            target_id=token_id(f" {plan.target}"),
            layer=plan.layer,
            columns=plan.columns,
            rows=rows_holding(plan),
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
    plain = [word for word in WORDS if word not in TOPICS]
    planted = [
        [row for p in PLANS if p.layer == layer for row in rows_holding(p)]
        for layer in memory_config().layer_ids
    ]
    for plan, fact in zip(PLANS, facts(), strict=True):
        ngrams = [
            words
            for words in product(plain, repeat=len(plan.words))
            if words != plan.words and (words[-1] == plan.words[-1]) is same_word
        ]
        prompts = [" ".join(("nax", "cev", *words)) for words in ngrams]
        rows = rows_of(prompts)
        alone = sum(np.isin(rows[:, i], known).sum(-1) for i, known in enumerate(planted)) == 1
        own = np.isin(rows[:, memory_config().layer_ids.index(plan.layer)], rows_holding(plan))
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

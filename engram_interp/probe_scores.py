"""How a model scores the choices of probes: log p after the prompt, above that without it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram_interp.capture.ablations import Kind, beside_control, log_probabilities
from engram_interp.capture.encode import Encoded, encode
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data.probes import Probe, ProbeSet
from engram_interp.errors import InputError

__all__ = ["ARMS", "Asked", "asked", "partners"]

ARMS = ("", "control_")
"""An ablation, and its random control of the same size."""
_TIE = 1e-4
"""Scores that differ by fewer nats are equal: so much is rounding of float32 log p."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Every choice of every probe as one sequence of tokens.

    Attributes:
        encoded: The sequences, in a drawn order.
        start: Of each, where the choice begins.
        place: Of each, its probe, its choice, and 1 where the prompt is left out.
        probes: The probes.
    """

    encoded: Encoded
    start: Tensor
    place: np.ndarray
    probes: tuple[Probe, ...]

    def score(
        self, model: SubjectModel, targets: dict[Kind, Any], *, batch_size: int, seed: int, means: Any = None
    ) -> dict[tuple[str, str], Float[np.ndarray, "probe part"]]:
        """By condition and arm: how far the right choice won (1 / k of k equals), its score in nats."""
        sites = [f"blocks.{layer}.hook_engram_out" for layer in model.memory_layers] if targets else []
        found = dict[tuple[str, str], list[np.ndarray]]()
        for first in range(0, len(self.encoded), batch_size):
            rows = slice(first, first + batch_size)
            batch, start = self.encoded.part(rows).trimmed(), self.start[rows]
            before, written = log_probabilities(model, batch, {}, sites)
            found.setdefault(("intact", ""), []).append(_summed(before, batch, start))
            for kind, target in targets.items():
                arms = beside_control(
                    model, batch, kind, target, written, seed=seed, first=first, means=means
                )
                for arm, log_p in zip(ARMS, arms, strict=True):
                    found.setdefault((kind, arm), []).append(_summed(log_p, batch, start))
        return {key: self._judged(np.concatenate(parts)) for key, parts in found.items()}

    def _judged(self, log_p: np.ndarray) -> np.ndarray:
        most = max(len(probe.choices) for probe in self.probes)
        table = np.full((len(self.probes), most, 2), np.nan)
        table[tuple(self.place.T)] = log_p
        score = table[..., 0] - table[..., 1]
        highest = score >= np.nanmax(score, axis=1, keepdims=True) - _TIE
        won = np.where(highest[:, 0], 1 / np.maximum(highest.sum(1), 1), 0.0)
        return np.stack([won, score[:, 0]], axis=1)


def _summed(log_p: Tensor, batch: Encoded, start: Tensor) -> np.ndarray:
    """Log p of every sequence's choice, nats."""
    tokens, mask = batch.tokens.cpu(), batch.mask.cpu()
    each = log_p[:, :-1].gather(-1, tokens[:, 1:, None]).squeeze(-1).double()
    chosen = mask[:, 1:] & (torch.arange(1, tokens.shape[1]) >= start[:, None])
    return torch.where(chosen, each, 0.0).sum(1).numpy()


def asked(
    model: SubjectModel, probes: ProbeSet, *, seed: int, prompts_of: Sequence[int] | None = None
) -> Asked:
    """Every choice after its prompt and without it, so that what is likely anywhere wins nothing.

    A choice scores log p(choice | prompt) - log p(choice | bare prompt), summed over its tokens; where a
    probe has no bare prompt, the separator alone stands in its place.

    Args:
        model: Who is asked.
        probes: What.
        seed: Of the order.
        prompts_of: Of each probe, which probe's prompt and bare prompt come before its choices; None for
            its own.

    Raises:
        InputError: If a probe does not fit the context, or nothing can stand before a choice alone.
    """
    sequences, starts, places = list[list[int]](), list[int](), list[tuple[int, int, int]]()
    for number, probe in enumerate(probes.probes):
        before = probe if prompts_of is None else probes.probes[prompts_of[number]]
        openings = (model.to_tokens(before.prompt)[0].tolist(), _bare(model, before))
        for left_out, opening in enumerate(openings):
            for choice, answer in enumerate(probe.choices):
                ids = model.tokenizer.encode(f" {answer}", add_special_tokens=False).ids
                if model.n_ctx is not None and len(opening) + len(ids) > model.n_ctx:
                    raise InputError(
                        f"Probe {probe.id!r} has {len(opening) + len(ids)} tokens with the choice {answer!r} "
                        f"and the context of {model.name} holds {model.n_ctx}; shorten it."
                    )
                sequences.append([*opening, *ids])
                starts.append(len(opening))
                places.append((number, choice, left_out))
    order = np.random.default_rng(seed).permutation(len(sequences))
    return Asked(
        encoded=encode(model, [sequences[i] for i in order]),
        start=torch.tensor([starts[i] for i in order]),
        place=np.asarray(places)[order],
        probes=probes.probes,
    )


def partners(probes: ProbeSet, *, seed: int) -> list[int] | None:
    """Another probe for each, drawn at random, whose prompt cannot tell the right choice; None for one probe.

    Drawn are those whose own answer is none of the probe's choices: after "The capital of Spain is" a model
    that knows it would rule the right choice out. Where there is no such probe, any other one is drawn.
    """
    if len(probes) < 2:
        return None
    generator, found = np.random.default_rng(seed), list[int]()
    for number, probe in enumerate(probes.probes):
        others = [i for i in range(len(probes)) if i != number]
        strangers = [i for i in others if probes.probes[i].answer not in probe.choices]
        found.append(int(generator.choice(strangers or others)))
    return found


def _bare(model: SubjectModel, probe: Probe) -> list[int]:
    """What a choice follows without the prompt."""
    if probe.bare:
        bare: list[int] = model.to_tokens(probe.bare)[0].tolist()
        return bare
    if model.separator_id is None:
        raise InputError(
            f"{model.name} has no separator, so no choice of probe {probe.id!r} can be scored without its "
            "prompt; give wrap(…, separator=…), or probes with a bare prompt."
        )
    return [model.separator_id]

"""Gates of models that learnt nothing: fresh copies of a model, drawn again and again."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from engram_interp.capture.captured import Capture
from engram_interp.capture.encode import Encoded
from engram_interp.capture.memories import memory_of
from engram_interp.capture.record import Recording
from engram_interp.capture.source import Source, model_of, recorded
from engram_interp.checkpoints.native import subject_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.memory.index import Progress, quiet
from engram_interp.memory.module import Engram
from engram_interp.model.transformer import HookedEngramTransformer

INIT_DOCUMENTS = 8
"""Prompts on which fresh initialisations are run, the first ones: a null over many costs many runs."""


def gate_sites(model: Source, name: str = "gate") -> list[str]:
    """The site of that name in every memory layer.

    Raises:
        InputError: If the model has no memory.
    """
    if not model.memory_layers:
        raise InputError(f"{model.name} has no memory, so it has no gates; give the model with Engram.")
    return [f"blocks.{layer}.engram.hook_{name}" for layer in model.memory_layers]


def counted(model: Source, rec: Recording) -> Bool[np.ndarray, "batch token"]:
    """True at every token but the separator."""
    mask = rec.mask.numpy().copy()
    if model.separator_id is not None:
        mask &= rec.tokens.numpy() != model.separator_id
    return mask


def gates_of(
    model: Source, encoded: Encoded
) -> tuple[Float[np.ndarray, "batch token layer stream"], Bool[np.ndarray, "batch token"]]:
    """Gates, and which positions count."""
    sites = gate_sites(model)
    rec = recorded(model, encoded, sites)
    return torch.stack([rec[s] for s in sites], dim=2).double().numpy(), counted(model, rec)


def recomputable(model: Source) -> str:
    """Why the gate cannot be computed for another key or query; empty if it can."""
    names = [*gate_sites(model, "key_normed"), *gate_sites(model, "query_normed")]
    if isinstance(model, Capture) and not all(s in model.sites for s in names):
        return f"the capture of {model.name} lacks the sites of the normalised key and query"
    if not isinstance(memory_of(model_of(model), model.memory_layers[0]), Engram):
        return f"the memory of {model.name} is not of a kind whose gate can be recomputed"
    if not all(s in model.sites for s in names):
        return f"{model.name} has no sites for the normalised key and query"
    return ""


def why_not_untrained(model: Source) -> str:
    """Why there is no untrained copy to compare with; empty if there can be one."""
    if isinstance(model, Capture):
        return f"a capture of {model.name} cannot be drawn anew"
    return "" if model.rebuild is not None else f"{model.name} came without rebuild=…"


def untrained(model: SubjectModel) -> SubjectModel:
    """The model at its own initialisation.

    Raises:
        InputError: If no fresh copy can be made.
    """
    if model.rebuild is None:
        raise InputError(f"{model.name} came without rebuild=…; give it to wrap for an untrained null.")
    fresh = model.rebuild().to(model.device)
    if isinstance(fresh, HookedEngramTransformer):
        return subject_of(fresh, model.tokenizer, name="untrained")
    if model.forward is not None:
        raise InputError(
            f"{model.name} runs through forward=…, which would run the trained module; wrap it anew."
        )
    return replace(model, module=fresh, name="untrained")


def initialisations(
    model: SubjectModel, count: int, *, seed: int, progress: Progress = quiet
) -> Iterator[SubjectModel]:
    """The untrained model, drawn anew `count` times.

    A model of ours is one module drawn again each time, so look at one before asking for the next. Any
    other is rebuilt with torch's global generator seeded inside, and left as it was outside.

    Args:
        model: The model.
        count: How many.
        seed: Of the seeds, which have 32 bits: torch's generator keeps no more.
        progress: Called with the share done, in [0, 1], and what comes next.
    """
    seeds = np.random.SeedSequence(seed).generate_state(count).tolist()
    fresh: SubjectModel | None = None
    for done, number in enumerate(seeds):
        progress(done / count, f"initialisation {done + 1} of {count}")
        if fresh is None or not isinstance(fresh.module, HookedEngramTransformer):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(number)
                fresh = untrained(model)
        if isinstance(fresh.module, HookedEngramTransformer):
            fresh.module.cfg = replace(fresh.module.cfg, init_seed=number)
            fresh.module.reset_parameters()
        yield fresh
    if count:
        progress(1.0, "done")

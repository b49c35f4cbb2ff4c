"""A streamed capture from the plan to the files that `open_capture` reads."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engram_interp.capture import plan as plans
from engram_interp.capture import shards, store
from engram_interp.capture.durable import alone, roomy
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.shards import Part
from engram_interp.capture.sites import AFTER, layer_of, until
from engram_interp.capture.streamed.layers import Streaming
from engram_interp.capture.streamed.plan import MOST_TOKENS, Rates, StreamPlan, plan_of
from engram_interp.capture.streamed.sites import read_rows, shape_of
from engram_interp.capture.streamed.state import State, batches
from engram_interp.checkpoints.deepseek_v41 import layout
from engram_interp.checkpoints.deepseek_v41.loading import on_disk
from engram_interp.checkpoints.deepseek_v41.weights import Source
from engram_interp.checkpoints.sharded import Shards, marks, open_shards
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.checkpoints.tensor_files import Reader
from engram_interp.errors import InputError
from engram_interp.model.deepseek_v41.backbone import DeepSeekV41
from engram_interp.model.deepseek_v41.config import V41Config


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far a streamed capture is.

    Attributes:
        layer: The layer that was passed last; -1 for the embedding.
        last_layer: The last one.
        done: Bytes of weights and rows behind it.
        of: Bytes that the plan reads.
        rate: Bytes a second, of those that this process read.
    """

    layer: int
    last_layer: int
    done: int
    of: int
    rate: float


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is to be done: the model, what is captured, and its cost."""

    subject: SubjectModel
    cfg: V41Config
    shards: Shards
    part: Part
    mine: Encoded
    last_layer: int
    plan: StreamPlan


def planned(
    model: SubjectModel,
    texts: Any,
    *,
    sites: Sequence[str],
    dtype: torch.dtype = torch.float32,
    batch_size: int = 16,
    shard: tuple[int, int] = (1, 1),
    stop_after: int | None = None,
    measure: bool = True,
) -> StreamPlan:
    """What `capture` with these arguments will cost; nothing is written.

    Args:
        model: A DeepSeek-V4.1 model whose weights were left on the disk.
        texts: Texts, a `PromptSet`, or token ids.
        sites: Site names or patterns.
        dtype: As of `capture`.
        batch_size: As of `capture`.
        shard: As of `capture`.
        stop_after: As of `capture`.
        measure: Whether to measure how fast this machine is, which takes a second or two.

    Raises:
        InputError: A site is unknown, or a shard that is needed is missing.
    """
    return _job(
        model,
        texts,
        sites=sites,
        dtype=dtype,
        batch_size=batch_size,
        shard=shard,
        shard_bytes=store.SHARD_BYTES,
        stop_after=stop_after,
        measure=measure,
    ).plan


def capture(
    model: SubjectModel,
    texts: Any,
    *,
    sites: Sequence[str],
    out: str | Path,
    dtype: torch.dtype = torch.float32,
    batch_size: int = 16,
    shard: tuple[int, int] = (1, 1),
    resume: bool = False,
    shard_bytes: int = store.SHARD_BYTES,
    stop_after: int | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Path:
    """Run all texts through one layer after the other and write what passes chosen sites.

    The files are those that `store.capture` would have written of the model in memory, byte for byte. Killed
    at any moment, it resumes after the last whole layer and ends in the same bytes.

    Args:
        model: A DeepSeek-V4.1 model whose weights were left on the disk.
        texts: Texts, a `PromptSet`, or token ids.
        sites: Site names or patterns.
        out: Directory: new or empty, or with `resume` that of the same capture, interrupted.
        dtype: Type of floating-point sites on disk.
        batch_size: Prompts that are run together, at most.
        shard: (i, n): the i-th of n shares of the prompts.
        resume: Go on with a capture in `out`.
        shard_bytes: About the size of a file.
        stop_after: The last layer to run; sites of later ones are left out. By default the last one that
            has a wanted site.
        progress: Called after each layer.

    Returns:
        `out`.

    Raises:
        InputError: A site is unknown, a shard that is needed is missing (it and its tensors are named),
            `out` holds something else, the disk is too small or full, or with `resume` the weights
            have changed.
        DamagedFileError: A file is cut short, or with `resume` not what was written.
    """
    job = _job(
        model,
        texts,
        sites=sites,
        dtype=dtype,
        batch_size=batch_size,
        shard=shard,
        shard_bytes=shard_bytes,
        stop_after=stop_after,
        measure=False,
    )
    folder = shards.folder_of(Path(out), *shard)
    scratch = folder / shards.SCRATCH
    store.check_room(folder, job.part, besides=job.plan.scratch_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder), roomy(folder):
        done = store.begun(folder, job.part, job.mine, resume=resume)
        if done < len(job.part.shards):
            scratch.mkdir(exist_ok=True)
            _run(job, scratch, progress)
            _assemble(job.part, folder, scratch, done)
        shutil.rmtree(scratch, ignore_errors=True)
    return Path(out)


def _job(
    model: SubjectModel,
    texts: Any,
    *,
    sites: Sequence[str],
    dtype: torch.dtype,
    batch_size: int,
    shard: tuple[int, int],
    shard_bytes: int,
    stop_after: int | None,
    measure: bool,
) -> _Job:
    if not on_disk(model) or model.folder is None:
        raise InputError(
            f"{model.name} is in memory; use engram_interp.capture.store, or leave its weights on the disk: "
            'load_model(…, weights="disk").'
        )
    assert isinstance(model.module, DeepSeekV41)
    cfg, encoded = model.module.cfg, encode(model, texts)
    names = until(model, sites, stop_after)
    width = encoded.tokens.shape[1]
    shapes = {site: shape_of(cfg, site, width=width, dtype=dtype) for site in names}
    part, mine = plans.plan(
        model,
        encoded,
        names,
        dtype,
        batch_size=batch_size,
        shard=shard,
        shard_bytes=shard_bytes,
        shapes=shapes,
    )
    last = max(layer_of(site) for site in names)
    found = open_shards(model.folder)
    found.require(_needed(cfg, last, logits="hook_logits" in names))
    rates = Rates.measured(found.place("embed.weight").path) if measure else None
    lengths = mine.mask.sum(1).tolist()
    cost = plan_of(
        cfg, lengths, last_layer=last, output_bytes=part.bytes, logits="hook_logits" in names, rates=rates
    )
    return _Job(subject=model, cfg=cfg, shards=found, part=part, mine=mine, last_layer=last, plan=cost)


def _needed(cfg: V41Config, last: int, *, logits: bool) -> list[str]:
    """Names of the tensors that are read."""
    outer = layout.outer(cfg)
    stored = [outer[0], *(outer[1 : 3 if logits else 2] if last == AFTER else [])]
    for layer in range(min(last, cfg.n_layers - 1) + 1):
        for stage in ("engram", "attn", "mlp"):
            stored += [one for one in layout.block(cfg, layer, stage) if one.paths]
        stored += [layout.table(cfg, layer)] if layer in cfg.memory_layers else []
        stored += [one for number in range(cfg.n_experts) for one in layout.expert(cfg, layer, number)]
    return [name for one in stored for name in one.tensors()]


def _run(job: _Job, scratch: Path, progress: Callable[[Step], None] | None) -> None:
    """All layers that are left, the state written after each."""
    digest, last = job.part.digest, min(job.last_layer, job.cfg.n_layers - 1)
    found = State.load(scratch, digest=digest)
    mine = batches(job.mine, most_prompts=job.part.batch_size, most_tokens=MOST_TOKENS)
    logits = "hook_logits" in job.part.sites
    now = marks(job.shards, _needed(job.cfg, job.last_layer, logits=logits))
    if found is not None:
        found.refuse_changed(now, folder=scratch)
    state = found or State.empty(job.cfg, tokens=job.part.rows, prompts=len(job.mine), marks=now)
    of = job.plan.weight_bytes + job.plan.row_bytes

    before = round(of * state.layer / max(1, last + 1)) if found else 0
    began = time.monotonic()

    def tell(layer: int) -> None:
        if progress is not None:
            rate = reader.done / max(time.monotonic() - began, 1e-3)
            done = of if layer == last else min(before + reader.done, of)  # not all experts are chosen
            progress(Step(layer=layer, last_layer=last, done=done, of=of, rate=rate))

    with Reader() as reader:
        source = Source(cfg=job.cfg, shards=job.shards, reader=reader)
        stream = Streaming(
            subject=job.subject,
            source=source,
            batches=mine,
            state=state,
            sites=dict(job.part.sites),
            folder=scratch,
        )
        if found is None:
            stream.enter()
            state.save(scratch, digest=digest)
        if state.layer <= last:
            tell(state.layer - 1)
        for layer in range(state.layer, last + 1):
            stream.pass_layer(layer)
            state.save(scratch, digest=digest)
            if layer < last:
                tell(layer)
        if job.last_layer == AFTER:
            stream.leave()
        tell(last)


def _assemble(part: Part, folder: Path, scratch: Path, done: int) -> None:
    """The shards, from the rows that were kept site by site."""
    start = sum(shard.rows for shard in part.shards[:done])
    for number in range(done, len(part.shards)):
        rows = slice(start, start + part.shards[number].rows)
        sites = {site: read_rows(scratch, site, shape, rows) for site, shape in part.sites.items()}
        shards.write_shard(folder, number, sites, part_digest=part.digest)
        start = rows.stop

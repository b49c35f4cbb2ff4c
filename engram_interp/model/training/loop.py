"""The training loop: one epoch of packed windows, resumable at any saved step."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt32
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from engram_interp.data.packing import Windows
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.model.feedforward import MixtureOfExperts
from engram_interp.model.training.device import find_device
from engram_interp.model.training.evaluate import HeldOut, gate_summary, held_out_loss, loss_by_group
from engram_interp.model.training.loss import tiled_cross_entropy
from engram_interp.model.training.optimiser import Optimisers, learning_rate
from engram_interp.model.training.recipe import Schedule
from engram_interp.model.transformer import HookedEngramTransformer

_IN_LOOP_WINDOWS = 64


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is known after a step.

    Attributes:
        step: Steps done.
        steps: Steps in all.
        tokens: Tokens trained on so far.
        loss: Training loss of the step, nats per token.
        grad_norm: Gradient norm before clipping, tables left out.
        valid_loss: Loss on the first held-out windows, where it was evaluated.
        strata_loss: The same by group of contexts `(tokens, loss)`, if groups were given.
        rows_touched: Share of the table rows that any step has hit; None without a memory.
        gates: Gate mean and standard deviation `[layer][stream]`, where evaluated.
        seconds: Wall time since training began, interruptions left out.
    """

    step: int
    steps: int
    tokens: int
    loss: float
    grad_norm: float
    valid_loss: float | None
    strata_loss: list[tuple[int, float | None]] | None
    rows_touched: float | None
    gates: dict[str, list[list[float]]] | None
    seconds: float


class Trainer:
    """A model in training.

    Nothing is drawn at random on the way (the order of the windows is the schedule's, the initial weights are
    drawn on the CPU), so a state holds no random state. On a CPU a resumed run ends bit for bit as one never
    cut. A GPU adds in no fixed order: there the next losses after a resumption are only promised to agree to
    1e-4 nats (not yet measured), on the same kind of device, and may drift apart later.

    Args:
        model: Freshly initialised model; it is moved to the device.
        windows: Training batches in order.
        schedule: Optimisation.
        valid: Held-out token stream, or None.
        strata: Group of the context that ends at each held-out token, from 0, or -1; None without groups.
        device: Where to train and evaluate: "cpu", "cuda" (the first GPU), "cuda:1", …

    Raises:
        InputError: If the machine has no such device, or a text is too short.
    """

    def __init__(
        self,
        model: HookedEngramTransformer,
        windows: Windows,
        schedule: Schedule,
        *,
        valid: UInt32[np.ndarray, " token"] | None = None,
        strata: Int64[np.ndarray, " token"] | None = None,
        device: str = "cpu",
    ) -> None:
        self.device = find_device(device)
        self.model, self.windows, self.schedule, self.valid = model, windows, schedule, valid
        self.strata = strata
        self.steps = schedule.tokens // (windows.batch * windows.length)
        if self.steps < 1 or self.steps > windows.steps_per_epoch:
            raise InputError(
                f"The recipe wants {schedule.tokens} tokens in steps of {windows.batch * windows.length}, "
                f"the text holds {windows.steps_per_epoch} steps; give more text or fewer tokens (one epoch "
                "at most: tables memorise repeats)."
            )
        if valid is not None and len(valid) <= windows.length:
            raise InputError(
                f"The held-out text has {len(valid)} tokens and one window wants {windows.length + 1}; give "
                "more of it."
            )
        model.to(self.device)
        self.optimisers = Optimisers(model, schedule)
        self.done, self.seconds = 0, 0.0
        rows = () if model.layout is None else model.layout.rows
        self.hits = [torch.zeros(int(n), dtype=torch.int32, device=self.device) for n in rows]
        self.touched = 0

    def run(self, *, save: Callable[[], None], save_every_seconds: float = 180.0) -> Iterator[Progress]:
        """Train to the end, yielding after every step; `save` is called every few minutes."""
        self.model.train()
        began, last_saved = time.perf_counter() - self.seconds, time.perf_counter()
        while self.done < self.steps:
            loss, norm = self._step()
            self.done += 1
            self.seconds = time.perf_counter() - began
            last = self.done == self.steps
            evaluate = self.done % self.schedule.evaluate_every == 0 or last or self.done == 1
            yield self._progress(loss, norm, evaluate=evaluate)
            if time.perf_counter() - last_saved > save_every_seconds:
                save()
                last_saved = time.perf_counter()
        self.model.eval()

    def _step(self) -> tuple[float, float]:
        batch = torch.from_numpy(self.windows.at(self.done)).to(self.device)
        inputs, targets = batch[:, :-1], batch[:, 1:]
        self._count_hits(inputs)
        rounded = self.schedule.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=rounded):
            hidden = self.model.ln_final(self.model.resid_final(inputs)).flatten(0, 1)
            loss = tiled_cross_entropy(hidden, self.model.embed.weight, targets.flatten())
        loss.backward()
        norm = self.optimisers.step(learning_rate(self.done, self.steps, self.schedule))
        for module in self.model.modules():
            if isinstance(module, MixtureOfExperts):
                module.rebalance()
        return float(loss.detach()), norm

    def _count_hits(self, inputs: Tensor) -> None:
        rows = self.model.memory_rows(inputs)
        if rows is not None:
            for layer, hits in enumerate(self.hits):
                # Nothing here goes through the whole table: a step costs what the batch reads.
                read, times = rows[:, :, layer].unique(return_counts=True)
                before = hits[read]
                self.touched += int((before == 0).sum())
                hits[read] = before + times.to(hits.dtype)

    def _progress(self, loss: float, norm: float, *, evaluate: bool) -> Progress:
        held_out, gates, strata = None, None, None
        if evaluate and self.valid is not None:
            found = held_out_loss(self.model, self.valid, windows=_IN_LOOP_WINDOWS)
            held_out, strata = found.loss, self.by_stratum(found)
            gates = gate_summary(self.model, self.valid) or None
        touched = None
        if self.hits:
            touched = self.touched / sum(map(len, self.hits))
        return Progress(
            step=self.done,
            steps=self.steps,
            tokens=self.done * self.windows.batch * self.windows.length,
            loss=loss,
            grad_norm=norm,
            valid_loss=held_out,
            strata_loss=strata,
            rows_touched=touched,
            gates=gates,
            seconds=self.seconds,
        )

    def by_stratum(self, found: HeldOut) -> list[tuple[int, float | None]] | None:
        """Tokens and mean loss of every group of contexts; None without groups, or for no tokens."""
        if self.strata is None:
            return None
        groups = loss_by_group(found, self.strata, count=int(self.strata.max(initial=0)) + 1)
        return [(tokens, loss if tokens else None) for tokens, loss in groups]

    def save_state(self, directory: Path) -> None:
        """Write everything a resumed run needs; the old state stands until the new one is whole."""
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {f"model:{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"optimiser:{k}": v for k, v in self.optimisers.state_tensors().items()}
        tensors |= {f"hits:{i}": h for i, h in enumerate(self.hits)}
        meta = {"step": str(self.done), "seconds": str(self.seconds), "schedule": self._fingerprint()}
        temporary = directory / "state.safetensors.tmp"
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, temporary, metadata=meta)
        temporary.replace(directory / "state.safetensors")

    def load_state(self, directory: Path) -> None:
        """Continue from `save_state`.

        Raises:
            InputError: If there is none, or it belongs to another recipe or text.
        """
        path = directory / "state.safetensors"
        if not path.is_file():
            raise InputError(f"Nothing to resume in {directory}; start the run without --resume.")
        try:
            with safe_open(path, framework="pt") as file:
                meta = file.metadata()
            tensors = load_file(path)
        except (SafetensorError, OSError) as cause:
            raise DamagedFileError(f"{path} cannot be read ({cause}); delete it to train anew.") from cause
        if meta["schedule"] != self._fingerprint():
            raise InputError(
                f"The state in {directory} was made by another recipe or text; use another --out."
            )

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model:"))
        self.optimisers.load_state_tensors(part("optimiser:"))
        self.hits = [part("hits:")[str(i)].to(self.device) for i in range(len(self.hits))]
        self.touched = sum(int((h > 0).sum()) for h in self.hits)
        self.done, self.seconds = int(meta["step"]), float(meta["seconds"])

    def _fingerprint(self) -> str:
        stream = self.windows.stream
        text = [len(stream), int(stream[:4096].sum()), int(stream[-4096:].sum()), int(stream.sum())]
        return json.dumps([asdict(self.schedule), self.model.cfg.to_dict(), text], sort_keys=True)

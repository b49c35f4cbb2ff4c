"""Look at somebody's training run while it runs: do its gates move, and do they come to help?

The gate of an untrained model already varies, so what is logged is each token's gate minus the same
token's at step 0. Looking leaves no trace in the run: nothing is differentiated or kept on the device,
random states are as they were, and every part is back in the mode it was in.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.memories import memory_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.gate_nulls import gates_of
from engram_interp.gate_usefulness import usefulness
from engram_interp.memory.module import Engram
from engram_interp.metrics import bootstrap, gate_stats
from engram_interp.provenance import describe, too_few
from engram_interp.results import TrainingWatch

__all__ = ["Watch"]

_NO_TABLES = "where training looks its rows up is not known; give tables="


class Watch:
    """A log of a memory along training: call it after every step, or give it to a `transformers.Trainer`.

    Make it before the first step: that is step 0, which all later gates are compared with::

        watch = Watch(wrap(module, tokenizer), texts, every=100)
        for step, batch in enumerate(batches, start=1):
            train_on(batch)
            watch(step)
        watch.close()
        watch.result().plot()

    With transformers' trainer: ``Trainer(…, callbacks=[watch])``; every step of the optimiser counts.

    Args:
        model: The model in training (`wrap`). It must have a memory.
        texts: Prompts that are looked at every time.
        every: Steps between looks.
        per_document: Tokens of each prompt whose gate is shut, one by one (see `gates.usefulness`).
        tables: By memory layer, the `nn.Embedding` that *training* looks its rows up in; found by itself
            where the memory is an `Engram` and the model is run as it is.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the tokens drawn and the bootstrap.
        step: The step that the model is at.

    Raises:
        InputError: If the model has no memory, or `every` is not at least 1.
    """

    def __init__(
        self,
        model: SubjectModel,
        texts: Any,
        *,
        every: int = 100,
        per_document: int = 4,
        tables: Mapping[int, nn.Embedding] | None = None,
        n_boot: int = 200,
        seed: int = 0,
        step: int = 0,
    ) -> None:
        if every < 1:
            raise InputError(f"every wants to be at least 1 step, got {every}.")
        self.model, self.encoded, self.every = model, encode(model, texts), every
        self.settings = {"per_document": per_document, "n_boot": n_boot, "seed": seed}
        self._start, self._mask = gates_of(model, self.encoded)
        self._looks: dict[int, dict[str, np.ndarray]] = {}
        tables = _own_tables(model) if tables is None else tables
        self._touched = {
            layer: torch.zeros(len(table.weight), dtype=torch.bool) for layer, table in tables.items()
        }
        self._handles = [
            table.register_forward_hook(_marking(self._touched[layer])) for layer, table in tables.items()
        ]
        self.look(step)

    def __call__(self, step: int) -> None:
        """Look, if it is time to: after every so many steps."""
        if step % self.every == 0:
            self.look(step)

    def look(self, step: int) -> None:
        """Look now, whatever the step; a second look at a step replaces the first."""
        gate, mask = gates_of(self.model, self.encoded)
        owner = np.broadcast_to(np.arange(len(mask))[:, None], mask.shape)[mask]
        n_boot, seed = self.settings["n_boot"], self.settings["seed"]
        found = gate_stats.summarise(gate, mask)
        shift = bootstrap.mean_interval((gate - self._start)[mask], owner, n_boot=n_boot, seed=seed)
        useful = usefulness(
            self.model,
            _again(self.encoded),
            per_document=self.settings["per_document"],
            n_boot=n_boot,
            seed=seed,
            n_inits=0,
        ).data
        touched = [
            self._touched[layer].float().mean().item() if layer in self._touched else np.nan
            for layer in self.model.memory_layers
        ]
        self._looks[step] = {
            "mean": found.mean,
            "sd": found.sd,
            "fraction_open": found.fraction_open,
            "shift": shift.value,
            "shift_low": shift.low,
            "shift_high": shift.high,
            "rows_touched": np.asarray(touched),
            **{
                name: useful[name].values
                for name in ("mean_delta", "mean_delta_low", "mean_delta_high", "auc")
            },
        }

    def result(self) -> TrainingWatch:
        """What was seen so far, with step as an axis."""
        steps = sorted(self._looks)
        names = list(self._looks[steps[0]])
        ends = ("shift_low", "shift_high", "mean_delta_low", "mean_delta_high")
        return TrainingWatch.from_arrays(
            coords={"step": steps, "layer": list(self.model.memory_layers)},
            variables={name: np.stack([self._looks[step][name] for step in steps]) for name in names},
            provenance=describe(self.model, self.encoded, seed=self.settings["seed"])
            | self.settings
            | {"null": f"the same tokens at step {steps[0]}", "n_samples": int(self._mask.sum())},
            missing={"auc": "Δloss has one sign only", "rows_touched": _NO_TABLES}
            | too_few(len(self.encoded), ends),
        )

    def close(self) -> None:
        """Stop marking rows; the log stays."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> Any:
        """What `transformers.Trainer` calls after a step of the optimiser."""
        self(int(state.global_step))
        return control

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("on_"):  # the trainer's other events
            return lambda *_, **__: None
        raise AttributeError(f"{type(self).__name__} has no {name}")


def _own_tables(model: SubjectModel) -> dict[int, nn.Embedding]:
    """The tables of memories that are ours; none of a copy, which training does not run."""
    if model.family == "qwen4_exp":
        return {}
    memories = {layer: memory_of(model, layer) for layer in model.memory_layers}
    return {layer: memory.table for layer, memory in memories.items() if isinstance(memory, Engram)}


def _marking(touched: Tensor) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        if module.training:
            touched[inputs[0].detach().flatten().cpu()] = True

    return hook


def _again(encoded: Encoded) -> list[list[int]]:
    """The prompts as ids, which every analysis takes."""
    return [row[mask].tolist() for row, mask in zip(encoded.tokens.cpu(), encoded.mask.cpu(), strict=True)]

"""AdamW for the network, row-sparse Adam for the tables, one learning-rate curve for both."""

import math

import torch
from torch import Tensor, nn

from engram_interp.model.training.recipe import Schedule


def learning_rate(step: int, total: int, schedule: Schedule) -> float:
    """Share of the peak rate at a step: linear warm-up, then a cosine down to `final_rate`."""
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    progress = (step - schedule.warmup) / max(1, total - schedule.warmup)
    low = schedule.final_rate
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class Optimisers:
    """The two optimisers and the gradient clip between them.

    Table gradients are sparse: a step costs in proportion to the rows the batch hit, whatever the
    table's size. They are left out of the clip, whose norm they would otherwise dominate.
    """

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        self.schedule = schedule
        named = dict(model.named_parameters())
        self.tables = {n: p for n, p in named.items() if n.endswith("engram.table.weight")}
        dense = {n: p for n, p in named.items() if n not in self.tables}
        decayed = [p for n, p in dense.items() if p.ndim == 2 and not n.startswith("embed")]
        plain = [p for n, p in dense.items() if p.ndim != 2 or n.startswith("embed")]
        betas = (schedule.beta1, schedule.beta2)
        self.dense = list(dense.values())
        groups = [
            {"params": decayed, "weight_decay": schedule.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.network: torch.optim.Optimizer = torch.optim.AdamW(
            groups, lr=schedule.learning_rate, betas=betas, fused=True
        )
        self.memory = (
            torch.optim.SparseAdam(
                list(self.tables.values()), lr=schedule.learning_rate * schedule.table_rate, betas=betas
            )
            if self.tables
            else None
        )
        self.names: dict[Tensor, str] = {p: n for n, p in named.items()}

    def step(self, share: float) -> float:
        """Update all weights at this share of the peak rate; the gradient norm before clipping."""
        norm = float(nn.utils.clip_grad_norm_(self.dense, self.schedule.clip))
        for optimiser, factor in ((self.network, 1.0), (self.memory, self.schedule.table_rate)):
            if optimiser is not None:
                for group in optimiser.param_groups:
                    group["lr"] = share * factor * self.schedule.learning_rate
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
        return norm

    def _all(self) -> list[torch.optim.Optimizer]:
        return [o for o in (self.network, self.memory) if o is not None]

    def state_tensors(self) -> dict[str, Tensor]:
        """Every moment estimate and step count under "parameter|key", for a resumable checkpoint."""
        return {
            f"{self.names[p]}|{key}": torch.as_tensor(value)
            for optimiser in self._all()
            for p, state in optimiser.state.items()
            for key, value in state.items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state_tensors` gave, on the device of each parameter."""
        parameters = {n: p for p, n in self.names.items()}
        for name, value in tensors.items():
            parameter, key = name.split("|")
            owner = self.memory if parameter in self.tables else self.network
            assert owner is not None
            sparse_step = key == "step" and owner is self.memory
            weight = parameters[parameter]
            owner.state[weight][key] = int(value) if sparse_step else value.to(weight.device, copy=True)

"""What a memory's write promotes: its direct effect on every token's logit, largest first."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram_interp.capture.attribute import MemoryPath, other_rows
from engram_interp.checkpoints.subject import SubjectModel

_MIDDLE = (0.025, 0.975)


def with_control(
    name: str, value: Float[Tensor, "..."], drawn: Float[Tensor, "draw ..."]
) -> dict[str, np.ndarray]:
    """`value` under `name`, and under ``control_{name}`` what the draws gave: mean and middle 95 %."""
    return {name: value.numpy(), **control(name, drawn)}


def control(name: str, drawn: Float[Tensor, "draw ..."]) -> dict[str, np.ndarray]:
    """Mean of the draws as ``control_{name}``, the ends of the middle 95 % as ``…_low`` and ``…_high``."""
    low, high = np.quantile(drawn.numpy(), _MIDDLE, axis=0)
    return {
        f"control_{name}": drawn.mean(0).numpy(),
        f"control_{name}_low": low,
        f"control_{name}_high": high,
    }


def promotions(
    model: SubjectModel, path: MemoryPath, *, top: int, draws: int, seed: int
) -> Mapping[str, np.ndarray]:
    """Most promoted and suppressed tokens of the whole write and of each row read at the position.

    Args:
        model: The model.
        path: What a memory layer read, and its way to the logits.
        top: Tokens kept each way.
        draws: How often random rows take the place of those read.
        seed: Of the draws.

    Returns:
        `effect` and `token_id` `[part, direction, rank]`, and the control's largest and smallest effect
        `[part, direction]`; the first part is the whole write, then the columns follow.
    """
    drawn = _taken_apart(path, other_rows(model, path, draws=draws, seed=seed))
    effects, ids, extremes = [], [], []
    for part, others in zip(_taken_apart(path, path.memory), drawn, strict=True):
        effect, chance = _centred(model, part), _centred(model, others)
        up, down = effect.topk(top), (-effect).topk(top)
        effects.append(torch.stack([up.values, -down.values]))
        ids.append(torch.stack([up.indices, down.indices]))
        extremes.append(torch.stack([chance.amax(-1), chance.amin(-1)], dim=-1))
    found = {"effect": torch.stack(effects).numpy(), "token_id": torch.stack(ids).numpy()}
    return found | control("effect", torch.stack(extremes, dim=1))


def _taken_apart(path: MemoryPath, rows: Tensor) -> list[Tensor]:
    """The whole write and each column's part of it, of the position's own reads."""
    writes = path.writes(rows)
    whole = writes.sum((-3, -2)) + (path.scale * path.bias).sum(0)
    return [whole, *writes[..., -1, :, :].unbind(-2)]


def _centred(model: SubjectModel, residual: Tensor) -> Tensor:
    """Logits of a part of the final, normalised residual, minus their mean over the vocabulary."""
    assert model.unembed is not None
    weight = model.unembed.weight.detach().cpu().float()
    logits = (residual.float() @ weight.T).double()
    return logits - logits.mean(-1, keepdim=True)

"""What the logit lens reads at every layer with the memory changed, against the intact answer.

Both measures are of the intact model's answer, not of the changed run's own: where an ablation cannot
reach (earlier tokens, lower layers) their change is exactly 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram_interp import lens_reading
from engram_interp.capture.encode import Encoded
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError

Seen = Mapping[str, Tensor]


def sites(model: SubjectModel) -> tuple[list[str], str]:
    """The sites that the lens reads, one a layer; or none, and why the model cannot be read so."""
    try:
        return lens_reading.sites(model), ""
    except InputError as error:
        return [], str(error)


def change(
    model: SubjectModel, encoded: Encoded, intact: Tensor, seen: Sequence[Seen]
) -> tuple[dict[str, Any], str]:
    """The raw lens of several runs of one prompt.

    Args:
        model: The model.
        encoded: The prompt.
        intact: Log-probabilities of the intact run `[1, token, d_vocab]`.
        seen: By run, what passed `sites`; the intact run first.

    Returns:
        ``lens_kl`` and ``lens_logprob`` `[run, layer, token]` in nats: KL(intact final ‖ layer), and the
        log-probability that the layer gives the token that the intact model puts first. Nothing, and why,
        where the lens cannot read the model.
    """
    names, why = sites(model)
    if why:
        return {}, why
    every = torch.ones_like(encoded.mask)
    try:
        rows = [
            lens_reading.rows(model, None, [run[name] for name in names], every, encoded=encoded)
            for run in seen
        ]
        lens_reading.check_answer(model, rows[0][-1], intact.to(rows[0][-1].device)[0])
    except InputError as error:
        return {}, str(error)
    final = rows[0][-1]
    reading = lens_reading.read(
        model,
        [*(layer for run in rows for layer in run), final],
        targets=intact[0].argmax(-1).to(final.device),
        want=("kl", "next_loss"),
    )
    values = reading.values[:, :-1].unflatten(1, (len(rows), -1)).movedim(0, -1).cpu().numpy()
    return {"lens_kl": values[:, :, 0], "lens_logprob": -values[:, :, 1]}, ""


def written(before: Tensor, after: Tensor) -> np.ndarray:
    """By token, whether a memory's write `[1, token, …]` differs: where a read goes with its convolution."""
    return (before != after).flatten(2).any(-1)[0].cpu().numpy()

"""Training a tuned lens (Belrose et al. 2023): each layer's residual put into the final layer's language.

An affine map per layer is trained to minimise KL(final ‖ lens) on text of one's own, before the model's
own final norm and unembedding. It starts as the raw lens; the last layer stays it. What it still gets
wrong on held-out text is then less a matter of language and more of what the layer does not yet know.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

import engram_interp
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.record import run_batches
from engram_interp.checkpoints.subject import SubjectModel, read_sites
from engram_interp.checkpoints.tuned_lens import TunedLens
from engram_interp.errors import InputError

__all__ = ["TunedLens", "train"]

Report = Callable[[int, int, float], None]


def train(
    model: SubjectModel,
    texts: Sequence[str],
    *,
    tokens: int = 300_000,
    held_out: float = 0.1,
    learning_rate: float = 1e-3,
    batch_size: int = 8,
    seed: int = 0,
    progress: Report | None = None,
) -> TunedLens:
    """Train one affine map per layer with Adam, its rate falling linearly to 0; one pass over the text.

    Args:
        model: The model; it is not changed. It needs a final norm and an unembedding.
        texts: Documents that will not be analysed; cut into windows of the context length.
        tokens: Most tokens taken, in document order.
        held_out: Share of the windows at the end that is kept out and measured before and after; the cut
            is moved to the nearest end of a document, so that none is on both sides.
        learning_rate: The first rate.
        batch_size: Windows per step.
        seed: Order of the windows.
        progress: Called with step, steps and the mean loss over layers.

    Returns:
        The lens with its facts: among them ``kl_before`` and ``kl_after`` by layer on held-out text (nats).

    Raises:
        InputError: If the model lacks the two parts, or the text gives fewer than ten windows or is one
            document.
    """
    if model.final_norm is None or model.unembed is None:
        raise InputError(
            f"A tuned lens is trained through the final norm and the unembedding, which {model.name} does "
            "not name; give wrap(…, final_norm=…, unembed=…)."
        )
    windows, owners = _windows(model, texts, tokens)
    if len(windows) < 10 or not 0 < held_out < 1:
        raise InputError(
            f"A tuned lens wants at least 10 windows of text and a share held out between 0 and 1, got "
            f"{len(windows)} and {held_out}; give more text."
        )
    cut = _cut(owners, held_out)
    learned, checked = encode(model, windows[:cut]), encode(model, windows[cut:])
    n = model.n_layers - 1
    matrix = torch.zeros(n, model.d_model, model.d_model, device=model.device, requires_grad=True)
    bias = torch.zeros(n, model.d_model, device=model.device, requires_grad=True)
    before = _held_out(model, checked, matrix, bias, batch_size)
    order = torch.randperm(len(learned), generator=torch.Generator().manual_seed(seed))
    optimiser = torch.optim.Adam([matrix, bias], lr=learning_rate, betas=(0.9, 0.99))
    steps = -(-len(learned) // batch_size)
    for step, (final, layers) in enumerate(_rows(model, _ordered(learned, order), batch_size)):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1 - step / steps)
        target, total = _log_probabilities(model, final), 0.0
        for layer, resid in enumerate(layers):
            loss = _divergence(model, resid, target, matrix[layer], bias[layer]).mean()
            loss.backward()
            total += loss.item()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if progress is not None:
            progress(step + 1, steps, total / max(1, n))
    stored = [functional.pad(p.detach(), (0, 0) * (p.ndim - 1) + (0, 1)) for p in (matrix, bias)]
    stored = [s.to(torch.bfloat16).float() for s in stored]  # as saved
    facts: dict[str, Any] = {
        "model": model.name,
        "method": "affine h + A h + b per layer, KL(final ‖ lens), Adam",
        "text_digest": learned.digest,
        "held_out_digest": checked.digest,
        "tokens": int(learned.mask.sum()),
        "held_out_tokens": int(checked.mask.sum()),
        "steps": steps,
        "learning_rate": learning_rate,
        "seed": seed,
        "kl_before": before,
        "kl_after": _held_out(model, checked, stored[0][:n], stored[1][:n], batch_size),
        "torch": str(torch.__version__),
        "version": engram_interp.__version__,
    }
    return TunedLens(matrix=stored[0], bias=stored[1], model_digest=model.digest, facts=facts)


def _windows(model: SubjectModel, texts: Sequence[str], tokens: int) -> tuple[list[list[int]], list[int]]:
    """Windows of the context length, and of each the document it is from."""
    opening = [] if model.separator_id is None else [model.separator_id]
    length, total = (model.n_ctx or 512) - len(opening), 0
    windows, owners = list[list[int]](), list[int]()
    for document, text in enumerate(texts):
        ids = model.tokenizer.encode(text, add_special_tokens=False).ids
        for start in range(0, len(ids), length):
            windows.append([*opening, *ids[start : start + length]])
            owners.append(document)
            total += len(windows[-1])
            if total >= tokens:
                return windows, owners
    return windows, owners


def _cut(owners: Sequence[int], held_out: float) -> int:
    """The first window that is kept out: it begins the document nearest to the share that is wished."""
    wished = len(owners) - max(1, round(held_out * len(owners)))
    begins = [i for i in range(1, len(owners)) if owners[i] != owners[i - 1]]
    if not begins:
        raise InputError(
            f"All {len(owners)} windows are of one document, so that none is left to hold out; give more "
            "documents, or more tokens."
        )
    return min(begins, key=lambda begin: abs(begin - wished))


def _ordered(encoded: Encoded, order: Tensor) -> Encoded:
    return Encoded(
        tokens=encoded.tokens[order],
        mask=encoded.mask[order],
        entity_ends=encoded.entity_ends,
        names=encoded.names,
    )


def _rows(
    model: SubjectModel, encoded: Encoded, batch_size: int
) -> Iterator[tuple[Tensor, list[Float[Tensor, "row d_model"]]]]:
    """Collapsed residuals at real tokens, of the last layer and of all layers before it."""
    sites = read_sites(model)
    for number, (_, seen) in enumerate(run_batches(model, encoded, sites, batch_size=batch_size)):
        mask = encoded.mask[number * batch_size : (number + 1) * batch_size]
        with torch.no_grad():
            rows = [seen[s] if model.readout is None else model.readout(seen[s]) for s in sites]
            rows = [r[mask].float().clone() for r in rows]
        yield rows[-1], rows[:-1]


def _log_probabilities(model: SubjectModel, resid: Tensor) -> Tensor:
    assert model.final_norm is not None and model.unembed is not None
    bias = None if model.unembed.bias is None else model.unembed.bias.detach().float()
    weight = model.unembed.weight.detach().float()
    return functional.linear(model.final_norm(resid), weight, bias).log_softmax(-1)


def _divergence(
    model: SubjectModel, resid: Tensor, target: Tensor, matrix: Tensor, bias: Tensor
) -> Float[Tensor, " row"]:
    own = _log_probabilities(model, resid + resid @ matrix.mT + bias)
    return functional.kl_div(own, target, reduction="none", log_target=True).sum(-1)


@torch.no_grad()
def _held_out(
    model: SubjectModel, encoded: Encoded, matrix: Tensor, bias: Tensor, batch_size: int
) -> list[float]:
    """Mean KL(final ‖ lens) of every layer but the last."""
    total, count = torch.zeros(len(matrix), dtype=torch.float64), 0
    for final, layers in _rows(model, encoded, batch_size):
        target = _log_probabilities(model, final)
        count += len(final)
        for layer, resid in enumerate(layers):
            total[layer] += _divergence(model, resid, target, matrix[layer], bias[layer]).double().sum().cpu()
    return [float(v) for v in (total / count)]

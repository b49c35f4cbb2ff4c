"""What every layer of a model says at chosen tokens, through the model's own final norm and unembedding."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from engram_interp.capture.encode import Encoded
from engram_interp.checkpoints.subject import SubjectModel, read_sites
from engram_interp.checkpoints.tuned_lens import TunedLens
from engram_interp.errors import InputError
from engram_interp.metrics import fused_lens
from engram_interp.metrics.fused_lens import Reading

_TILE = fused_lens.ROWS
_SAME = 0.05
"""Most nats between the model's own logits and the last layer's lens: bfloat16 logits differ by less."""


def sites(model: SubjectModel) -> list[str]:
    """The sites a lens reads, one a layer.

    Raises:
        InputError: If the model lacks one of them, or has no lens head.
    """
    if model.lens_head is None and (model.final_norm is None or model.unembed is None):
        raise InputError(
            f"{model.name} has no lens head; give wrap(…, lens_head=…), the map from a residual to logits "
            "through the final norm and the unembedding, or final_norm=… and unembed=…."
        )
    names = read_sites(model)
    missing = [s for s in names if s not in model.sites]
    if missing:
        raise InputError(f"{model.name} has no {missing[0]}, which the lens reads; add it to wrap's sites.")
    return names


@torch.inference_mode()
def rows(
    model: SubjectModel,
    tuned: TunedLens | None,
    residuals: Sequence[Tensor],
    where: Bool[Tensor, "batch token"],
    *,
    encoded: Encoded,
    first: int = 0,
) -> list[Float[Tensor, "row d_model"]]:
    """Collapsed residuals of every layer at some tokens, translated but for the last: it is the answer.

    Args:
        model: Gives the collapse.
        tuned: Translates; None for the raw lens.
        residuals: Of every layer, `[batch, token, …]`, of consecutive prompts.
        where: The tokens.
        encoded: All the prompts.
        first: The prompt that the batch begins with.

    Raises:
        InputError: If one is no number; names model, layer, prompt and token.
    """
    found = []
    for layer, resid in enumerate(residuals):
        own = (resid if model.readout is None else model.readout(resid))[where]
        broken = ~own.isfinite().all(-1)
        if bool(broken.any()):
            prompt, token = where.nonzero()[int(broken.nonzero()[0, 0])].tolist()
            kind = "NaN" if bool(own[broken][0].isnan().any()) else "infinity"
            raise InputError(
                f"{model.name} has {kind} in the residual after layer {layer} at token {token} of prompt "
                f"{encoded.names[first + prompt]!r} (token id {int(encoded.tokens[first + prompt, token])}); "
                "the lens cannot read it: mend the weights or leave that prompt out."
            )
        last = layer == len(residuals) - 1
        found.append(own if tuned is None or last else tuned.translate(layer, own))
    return found


@torch.inference_mode()
def _logits(model: SubjectModel, rows: Tensor) -> Float[Tensor, "*batch d_vocab"]:
    if model.final_norm is None or model.unembed is None:
        assert model.lens_head is not None
        return model.lens_head(rows).float()
    logits = model.final_norm(rows).float() @ model.unembed.weight.float().mT
    return logits if model.unembed.bias is None else logits + model.unembed.bias.float()


@torch.inference_mode()
def check_answer(
    model: SubjectModel, last: Float[Tensor, "row d_model"], output: Float[Tensor, "row d_vocab"]
) -> None:
    """Refuse a lens whose last layer is not the model's answer; a few tokens show it.

    Args:
        model: Gives the head.
        last: Collapsed residuals of the last layer.
        output: The model's own logits there.

    Raises:
        InputError: If the two are further apart than rounding to bfloat16 explains.
    """
    log_p, log_q = (x[:_TILE].double().log_softmax(-1) for x in (output, _logits(model, last[:_TILE])))
    apart = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    if not apart <= _SAME:
        raise InputError(
            f"The lens of {model.name} does not give the model's own logits after the last layer: they are "
            f"{apart:.3g} nats apart; give wrap(…) the final norm, the unembedding and, with several "
            "streams, the collapse that the model uses, or lens_head=…, which holds all that it does to "
            "logits."
        )


@torch.no_grad()
def read(
    model: SubjectModel,
    rows: Sequence[Float[Tensor, "row d_model"]],
    *,
    targets: Int64[Tensor, " row"] | None = None,
    want: Sequence[str],
    top: int = 0,
) -> Reading:
    """What the layers say, by the fused form where the model names its final norm and unembedding.

    Args:
        model: Gives the head.
        rows: Residuals of every layer as `rows` gives them.
        targets: Next tokens, for "next_loss".
        want: Among `fused_lens.NAMES`.
        top: Token ids of the highest probability to give.
    """
    if model.final_norm is not None and model.unembed is not None:
        normed, head = [model.final_norm(r) for r in rows], model.unembed
        return fused_lens.read(
            normed[-1], normed, head.weight, bias=head.bias, targets=targets, want=want, top=top
        )
    parts = []
    for start in range(0, len(rows[0]), _TILE):
        tile = slice(start, start + _TILE)
        parts.append(
            _by_head(model, [r[tile] for r in rows], None if targets is None else targets[tile], want, top)
        )
    return Reading(
        values=torch.cat([part.values for part in parts]),
        top_id=torch.cat([part.top_id for part in parts]),
        top_logprob=torch.cat([part.top_logprob for part in parts]),
    )


def _by_head(
    model: SubjectModel, rows: Sequence[Tensor], targets: Tensor | None, want: Sequence[str], top: int
) -> Reading:
    """The same from float64 log-probabilities, for a model that gives only its head as a whole.

    Its own logits are float32 or less; in float64 a divergence of them below 0 is rounding.
    """
    log_p = _logits(model, rows[-1]).double().log_softmax(-1)
    best = log_p.argmax(-1, keepdim=True)
    values, leaders = [], []
    for layer in rows:
        log_q = _logits(model, layer).double().log_softmax(-1)
        kl, reverse = (
            (p.exp() * (p - q)).sum(-1).clamp_(min=0.0) for p, q in ((log_p, log_q), (log_q, log_p))
        )
        above = (log_q > log_q.gather(-1, best)).sum(-1)
        found = {
            "kl": kl,
            "reverse_kl": reverse,
            "entropy": -(log_q.exp() * log_q).sum(-1),
            "final_rank": above.double(),
            "agreement": (above == 0).double(),
        }
        if targets is not None:
            found["next_loss"] = -log_q.gather(-1, targets[:, None])[:, 0]
        values.append(torch.stack([found[name] for name in want], dim=-1))
        leaders.append(log_q.topk(top, dim=-1))
    return Reading(
        values=torch.stack(values, dim=1),
        top_id=torch.stack([found.indices for found in leaders], dim=1),
        top_logprob=torch.stack([found.values for found in leaders], dim=1),
    )

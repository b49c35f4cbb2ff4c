"""A model's rest: what it does from behind a layer on, given another residual there."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from engram_interp.capture.encode import Encoded
from engram_interp.capture.intervene import intervene
from engram_interp.capture.record import evaluating
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.model.transformer import HookedEngramTransformer


class Rest:
    """Next-token loss by document with the residual after a layer replaced.

    No parameter is changed and none gets a gradient; afterwards, also after an error, every part of the
    module is in the mode it was in.

    Args:
        model: The model, with one residual stream.
        encoded: Its documents.
        batch_size: Documents per forward pass.
    """

    def __init__(self, model: SubjectModel, encoded: Encoded, *, batch_size: int) -> None:
        self.model, self.encoded, self.batch_size = model, encoded, batch_size
        lengths = encoded.mask.sum(1).cpu().numpy()
        self.starts = np.concatenate([[0], lengths.cumsum()])
        self.tokens = lengths - 1
        module = model.module
        self._native = (
            isinstance(module, HookedEngramTransformer)
            and module.cfg.n_streams == 1
            and not module.cfg.memory_layers
        )

    def intact(self) -> Float[np.ndarray, " document"]:
        """Summed loss of each document, nothing replaced."""
        return self.losses(None, 0, np.arange(len(self.encoded)))[0]

    def losses(
        self,
        rows: Float[np.ndarray, "sample d"] | None,
        layer: int,
        documents: Int64[np.ndarray, " document"],
        *,
        gradient: bool = False,
    ) -> tuple[Float[np.ndarray, " document"], Float[np.ndarray, "row d"] | None]:
        """Summed loss of the documents, and its gradient by their rows where asked for.

        Args:
            rows: Residual of every real token of all documents; None replaces nothing.
            layer: Whose output is replaced.
            documents: Which documents to run; rows of the gradient are theirs, in this order.
            gradient: Whether to differentiate.
        """
        found, slopes = [], []
        with evaluating(self.model.module), torch.set_grad_enabled(gradient):
            for start in range(0, len(documents), self.batch_size):
                chosen = documents[start : start + self.batch_size]
                new = None
                if rows is not None:
                    parts = [rows[self.starts[d] : self.starts[d + 1]] for d in chosen]
                    new = torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(self.model.device)
                    new.requires_grad_(gradient)
                losses = self._batch(new, layer, chosen)
                if gradient and new is not None:
                    slopes.append(torch.autograd.grad(losses.sum(), new)[0].cpu().numpy())
                found.append(losses.detach().double().cpu().numpy())
        return np.concatenate(found), np.concatenate(slopes) if slopes else None

    def _batch(self, new: Tensor | None, layer: int, chosen: Sequence[int] | np.ndarray) -> Tensor:
        index = torch.as_tensor(np.asarray(chosen), device=self.model.device)
        tokens, mask = self.encoded.tokens[index], self.encoded.mask[index]
        width = int(mask.sum(1).max())
        tokens, mask = tokens[:, :width], mask[:, :width]
        predicted = mask[:, 1:]
        logits = self._logits(new, layer, tokens, mask)[:, :-1][predicted]
        each = functional.cross_entropy(logits.float(), tokens[:, 1:][predicted], reduction="none")
        document = predicted.nonzero()[:, 0]
        return torch.zeros(len(tokens), device=each.device).index_add(0, document, each)

    def _logits(self, new: Tensor | None, layer: int, tokens: Tensor, mask: Tensor) -> Tensor:
        module = self.model.module
        if new is None:
            return self.model.logits(tokens, mask)
        if self._native and isinstance(module, HookedEngramTransformer):
            dtype = module.embed.weight.dtype
            resid = torch.zeros(*mask.shape, new.shape[1], dtype=dtype, device=new.device)
            resid = resid.index_put(mask.nonzero(as_tuple=True), new.to(dtype))
            alive = None if bool(mask.all()) else mask
            for block in module.blocks[layer + 1 :]:
                resid = block(resid, None, alive)
            native: Tensor = module.unembed(module.ln_final(resid))
            return native

        def change(old: Tensor) -> Tensor:
            return old.index_put(mask.nonzero(as_tuple=True), new.to(old.dtype))

        with intervene(self.model, {f"blocks.{layer}.hook_resid_post": change}):
            return self.model.logits(tokens, mask)

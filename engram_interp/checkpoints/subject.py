"""The model under study, whichever family it comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from tokenizers import Tokenizer
from torch import Tensor, nn

from engram_interp.checkpoints.token_bytes import as_text
from engram_interp.errors import InputError
from engram_interp.memory.counts import NgramCounts
from engram_interp.memory.hashing import Boundary, Layout


@dataclass(frozen=True, kw_only=True, eq=False)
class Unembed:
    """Logits of a normalised residual: ``weight @ x + bias``.

    Attributes:
        weight: Unembedding.
        bias: Its bias, or None.
    """

    weight: Float[Tensor, "d_vocab d_model"]
    bias: Float[Tensor, " d_vocab"] | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class SubjectModel:
    """A torch module, its tokenizer, and a map from canonical sites to places in the module.

    Analyses see only this. Layers count from 0.

    Attributes:
        module: The torch module; its submodules named in `sites` can be hooked.
        tokenizer: The model's tokenizer.
        name: What results call the model.
        family: "native", "demo", …, or "wrapped" for a module of the user's own.
        sites: Canonical site name → path of the submodule whose output it is.
        n_layers: Blocks.
        d_model: Width of the residual stream.
        n_streams: Residual streams M.
        n_ctx: Longest input in tokens, or None for no limit.
        d_vocab: Token ids.
        memory_layers: Layers with a memory.
        separator_id: Token id put first.
        dead_ids: Token ids that the memory does not see (images): windows stop there and gates are shut.
        layout: Hash layout of the memory.
        token_map: Canonical id of every token id.
        boundary: Where n-gram windows stop.
        forward: Logits of token ids and a mask; by default `module(ids)`.
        readout: Streams to the one residual that the final norm reads; None with one stream.
        collapsed_site: What a block's site is called that holds the collapse of its streams, where that is
            no function of the streams alone (V4.1 reads them by a mix it computed earlier).
        lens_head: Residual to logits, through the model's own final norm and unembedding.
        final_norm: The model's own final norm; with `unembed` it is the lens head taken apart, which
            lets the lenses do without every layer's logits.
        unembed: The model's own unembedding.
        tuned_lens: Directory of the tuned lens that comes with the model; None without one.
        rebuild: A freshly initialised copy of the module, for the untrained null; None if unknown.
        bridge: TransformerLens's view of the same weights, where the module has no hook points itself; it is
            made when first called.
        hits: Training hits of every table row by layer, where the checkpoint tells.
        counts: How often the training text has n-grams, where that is kept beside the weights.
        digest: Digest of the weights, for provenance.
        folder: The directory it was opened from; None for a module of the user's own.
        notes: What the loader ignored or assumed.
    """

    module: nn.Module
    tokenizer: Tokenizer
    name: str
    family: str
    sites: Mapping[str, str]
    n_layers: int
    d_model: int
    d_vocab: int
    n_streams: int = 1
    n_ctx: int | None = None
    memory_layers: tuple[int, ...] = ()
    separator_id: int | None = None
    dead_ids: tuple[int, ...] = ()
    layout: Layout | None = None
    token_map: Int64[np.ndarray, " d_vocab"] | None = None
    boundary: Boundary = "none"
    forward: Callable[[Tensor, Tensor | None], Tensor] | None = None
    readout: Callable[[Tensor], Tensor] | None = None
    collapsed_site: str | None = None
    lens_head: Callable[[Tensor], Tensor] | None = None
    final_norm: Callable[[Tensor], Tensor] | None = None
    unembed: Unembed | None = None
    tuned_lens: Path | None = None
    rebuild: Callable[[], nn.Module] | None = None
    bridge: Callable[[], Any] | None = None
    hits: Mapping[int, Int64[np.ndarray, " row"]] = field(default_factory=dict)
    counts: NgramCounts | None = None
    digest: str = ""
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def hooks(self) -> Any:
        """TransformerLens's `hooks` context manager of the module, or of its bridge."""
        return _hooked(self, "hooks")

    def run_with_cache(self, tokens: Any, **kwargs: Any) -> Any:
        """TransformerLens's `run_with_cache` of the module."""
        return _hooked(self, "run_with_cache")(tokens, **kwargs)

    def run_with_hooks(self, tokens: Any, **kwargs: Any) -> Any:
        """TransformerLens's `run_with_hooks` of the module."""
        return _hooked(self, "run_with_hooks")(tokens, **kwargs)

    def __call__(
        self, tokens: Int64[Tensor, "batch token"], mask: Bool[Tensor, "batch token"] | None = None
    ) -> Float[Tensor, "batch token d_vocab"]:
        """Logits of token ids, as `logits`; the hooked module itself is `module`."""
        return self.logits(tokens, mask)

    def __repr__(self) -> str:
        memory = f"memory at {', '.join(map(str, self.memory_layers))}" if self.memory_layers else "no memory"
        streams = f", {self.n_streams} streams" if self.n_streams > 1 else ""
        return (
            f"<SubjectModel {self.name} ({self.family}): {self.n_layers} layers of width {self.d_model}"
            f"{streams}, {memory}, {self.d_vocab:,} token ids, {len(self.sites)} sites>"
        )

    @property
    def device(self) -> torch.device:
        """Where the module's weights are; the CPU for those that were left on the disk."""
        found = next(self.module.parameters()).device
        return torch.device("cpu") if found.type == "meta" else found

    @property
    def weights_dtype(self) -> str:
        """The type of the first of the module's weights, as torch names it."""
        return str(next(self.module.parameters()).dtype).removeprefix("torch.")

    def to_tokens(self, text: str) -> Int64[Tensor, "batch token"]:
        """Token ids `[1, token]` of one text, the document separator first.

        Raises:
            InputError: If the text is empty.
        """
        if not text:
            raise InputError("The prompt is empty; give at least one character of text.")
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        first = [] if self.separator_id is None else [self.separator_id]
        return torch.tensor([[*first, *ids]], dtype=torch.int64, device=self.device)

    def logits(
        self, tokens: Int64[Tensor, "batch token"], mask: Bool[Tensor, "batch token"] | None = None
    ) -> Float[Tensor, "batch token d_vocab"]:
        """Logits of right-padded token ids; the mask is True at real tokens."""
        if self.forward is not None:
            return self.forward(tokens, mask)
        output = self.module(tokens)
        logits: Tensor = getattr(output, "logits", output)
        return logits

    def token_text(self, token_id: int) -> str:
        """The text of one token id as the tokenizer decodes it alone.

        Bytes that are no whole characters come as Python's surrogate escapes, which the views show as hex.
        """
        text: str = self.tokenizer.decode([token_id], skip_special_tokens=False)
        return text if "\ufffd" not in text else as_text(self.tokenizer.id_to_token(token_id)) or text


def read_sites(model: SubjectModel) -> list[str]:
    """Of every block the site that a lens reads: the residual after it, or its collapse."""
    name = model.collapsed_site or "hook_resid_post"
    return [f"blocks.{layer}.{name}" for layer in range(model.n_layers)]


def _hooked(model: SubjectModel, name: str) -> Any:
    if model.bridge is not None:
        return getattr(model.bridge(), name)
    if not hasattr(model.module, name):
        raise InputError(
            f"{model.name} is a plain torch module without TransformerLens hook points; use "
            "engram_interp.capture.record(model, texts, sites=[…]) instead."
        )
    return getattr(model.module, name)

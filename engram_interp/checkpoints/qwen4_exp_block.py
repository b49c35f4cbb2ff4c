"""A block of Qwen's `qwen4_exp` with hook points; its memory (a per-layer embedding, PLE) is our module."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.config import EngramConfig
from engram_interp.memory.hashing import Layout
from engram_interp.memory.module import Engram


@torch.no_grad()
def engram_from_ple(layer: Any) -> tuple[Engram, Layout]:
    """A copy of a PLE layer, and the hash layout stored in it.

    Raw token ids are hashed; windows restart after every EOS, which also stands for "nothing there":
    `segments(…, boundary="separator_ends")` and `addresses(…, pad_id=eos)` give the addresses it reads.

    Args:
        layer: A `Qwen4ExpTextPLELayer` of transformers. Its table may have more rows than the layout
            uses: they are padding that no n-gram reaches.

    Returns:
        The layer as an `Engram`, and the layout with the layer's number counted from 0.

    Raises:
        InputError: If the stored offsets are not the sums of the stored primes.
    """
    engram, layout = _empty_engram(layer, device="cpu")
    engram.load_state_dict(_weights_of(layer))
    return engram, layout


def _empty_engram(layer: Any, *, device: str) -> tuple[Engram, Layout]:
    """An `Engram` of a PLE layer's shape, without its weights, and the hash layout stored in it."""
    hashed = layer.ple_embedding
    orders, heads = hashed.ngram_size - 1, hashed.heads_per_ngram
    layout = Layout(
        primes=hashed.ngram_heads_vocab_sizes.view(1, orders, heads).numpy(force=True),
        multipliers=hashed.layer_multipliers[None].numpy(force=True),
        layer_ids=(layer.layer_idx,),
    )
    offsets = hashed.ngram_heads_offsets.numpy(force=True)
    if not np.array_equal(offsets, layout.offsets[0]):
        raise InputError(
            f"Layer {layer.layer_idx} (counted from 0) stores the offsets {few(offsets)}, and its heads "
            f"add up to {few(layout.offsets[0])}; the checkpoint is damaged or hashes by another rule."
        )
    table = hashed.ngram_embedding.weight
    config = EngramConfig(
        layer_ids=(layer.layer_idx,),
        max_order=hashed.ngram_size,
        heads=heads,
        d_row=table.shape[1],
        rows=hashed.ngram_vocab_size_base,
        hash_rule="explicit",
        compression="none",
        pad_token=hashed.eos_token_id,
        boundary="separator_ends",
        seed=hashed.seed,
        conv_kernel=layer.conv1d.kernel_size[0],
        conv_dilation=layer.conv1d.dilation[0],
        norm="zero_centred",
        norm_eps=layer.norm_key.eps,
        conv_norm_eps=layer.norm_conv.eps,
    )
    with torch.device(device):
        engram = Engram(config, d_model=layer.hidden_size, n_streams=layer.hc_count, n_rows=len(table))
    return engram, layout


def _weights_of(layer: Any) -> dict[str, Tensor]:
    """A PLE layer's weights under our names."""
    shape = (layer.hc_count, layer.hidden_size)
    return {
        "table.weight": layer.ple_embedding.ngram_embedding.weight,
        "key.weight": layer.key_proj.weight,
        "value.weight": layer.value_proj.weight,
        "key_norm.weight": layer.norm_key.weight.view(shape),
        "query_norm.weight": layer.norm_query.weight.view(shape),
        "conv.norm.weight": layer.norm_conv.weight.view(shape),
        "conv.conv.weight": layer.conv1d.weight,
    }


def few(numbers: Int64[np.ndarray, "..."]) -> str:
    """The first of some numbers, for an error."""
    flat: Sequence[int] = numbers.ravel().tolist()
    return f"{', '.join(map(str, flat[:4]))}{', …' if len(flat) > 4 else ''}"


def passed(
    point: HookPoint, folded: Float[Tensor, "batch token folded"], n_streams: int
) -> Float[Tensor, "batch token folded"]:
    """Folded streams, past a hook point that sees their axis."""
    seen: Tensor = point(folded.unflatten(-1, (n_streams, -1)))
    return seen.flatten(-2)


class Memory(nn.Module):
    """A PLE layer's place: hashes, looks up and gates as it does, through our module."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.engram, self.layout = _empty_engram(layer, device="meta")
        shared = {name: weight.detach() for name, weight in _weights_of(layer).items()}
        self.engram.load_state_dict(shared, assign=True)  # the same memory, other parameters
        self.eos = int(layer.ple_embedding.eos_token_id)
        self.hook_engram_out = HookPoint()

    def forward(
        self,
        hidden_states: Float[Tensor, "batch token folded"],
        input_ids: Int64[Tensor, "batch token"],
        past_key_values: Any,
        conv_mask: Bool[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch token folded"]:
        """What the memory writes into the folded streams.

        Raises:
            InputError: If a cache is given: earlier tokens would be missing from the windows.
        """
        if past_key_values is not None:
            raise InputError("A hooked qwen4_exp runs whole prompts; give use_cache=False.")
        split = hashing.segments(input_ids, separator_id=self.eos, boundary="separator_ends")
        rows = hashing.addresses(input_ids, self.layout, pad_id=self.eos, segment_ids=split)[:, :, 0]
        dead = None if conv_mask is None else conv_mask == 0
        count = self.engram.n_streams
        written = self.engram(hidden_states.unflatten(-1, (count, -1)), rows, dead).flatten(-2)
        return passed(self.hook_engram_out, written, count)


class Mid(nn.Module):
    """The feed-forward's hyper-connection, with the streams before it on a hook point."""

    def __init__(self, inner: nn.Module, n_streams: int) -> None:
        super().__init__()
        self.inner, self.n_streams, self.hook_resid_mid = inner, n_streams, HookPoint()

    def forward(self, hyper_input: Float[Tensor, "batch token folded"]) -> Any:
        """As the connection it holds."""
        return self.inner(passed(self.hook_resid_mid, hyper_input, self.n_streams))


class Block(nn.Module):
    """A decoder layer, with the streams before and after it on hook points."""

    def __init__(self, inner: Any, n_streams: int) -> None:
        super().__init__()
        self.inner, self.n_streams = inner, n_streams
        if inner.ple is not None:
            inner.ple = Memory(inner.ple)
        inner.mlp_hyper_connection = Mid(inner.mlp_hyper_connection, n_streams)
        self.hook_resid_pre, self.hook_resid_post = HookPoint(), HookPoint()

    def forward(
        self, hidden_states: Float[Tensor, "batch token folded"], *args: Any, **kwargs: Any
    ) -> Float[Tensor, "batch token folded"]:
        """As the layer it holds."""
        before = passed(self.hook_resid_pre, hidden_states, self.n_streams)
        return passed(self.hook_resid_post, self.inner(before, *args, **kwargs), self.n_streams)

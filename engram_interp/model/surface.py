"""What TransformerLens's tools expect of a model beyond its forward pass."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.utilities import Slice

from engram_interp.errors import InputError
from engram_interp.model.cache import EngramCache
from engram_interp.model.config import ModelConfig


def _encode(model: "LensSurface", text: str) -> list[int]:
    if model.tokenizer is None:
        raise InputError("This model was made without a tokenizer; give token ids, or tokenizer=…")
    return [model.cfg.separator_id, *model.tokenizer.encode(text, add_special_tokens=False).ids]


def _token_axis(site: str) -> int | None:
    if ".experts." in site:
        return None  # an expert sees the tokens routed to it, in no common order
    return 2 if site.endswith(("hook_attn_scores", "hook_pattern")) else 1


class LensSurface(HookedRootModule):
    """Weights, token conversion and caching under the names TransformerLens's tools use.

    With one residual stream its own tools take the model as it is, with the memory among the parts::

        from transformer_lens import patching
        from transformer_lens.tools.analysis import direct_logit_attribution
        from transformer_lens.tools.analysis.attribution_patching import cache_activation_and_gradient

        direct_logit_attribution(model, "People's Republic of", " China")  # "4_engram_out" is a part
        patching.get_act_patch_attn_out(model, corrupted, clean_cache, metric)  # and the others
        places = pd.DataFrame([(4, t) for t in range(n_tokens)], columns=["layer", "pos"])
        setter, site = patching.layer_pos_patch_setter, "engram_out"  # or "memory4engram", the rows read
        patching.generic_activation_patch(
            model, corrupted, clean_cache, metric, setter, site, index_df=places
        )
        name = "blocks.4.hook_engram_out"
        run = cache_activation_and_gradient(model, corrupted, metric, names_filter=name)
        (clean_cache["engram_out", 4] - run.activations[name]) * run.gradients[name]  # attribution patching

    Gradients reach the hooks of frozen weights too. Direct *path* patching and edge attribution want hooks
    before each head's own query, key and value, which this model does not have.
    """

    cfg: ModelConfig
    tokenizer: Any
    embed: nn.Embedding

    @property
    def W_E(self) -> Float[Tensor, "d_vocab d_model"]:
        """Token embedding."""
        return self.embed.weight

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"]:
        """Unembedding, tied to the embedding."""
        return self.embed.weight.mT

    @property
    def b_U(self) -> Float[Tensor, " d_vocab"]:
        """Unembedding bias: none, zeros."""
        return self.embed.weight.new_zeros(self.cfg.d_vocab)

    def unembed(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        """Logits of a normalised residual."""
        return nn.functional.linear(x, self.embed.weight)

    def accumulated_bias(self, *_: Any, **__: Any) -> Float[Tensor, " d_model"]:
        """Sum of the layers' output biases: there are none, zeros."""
        return self.embed.weight.new_zeros(self.cfg.d_model)

    def to_tokens(self, text: str | list[str], **_: Any) -> Int64[Tensor, "batch token"]:
        """Token ids with the document separator first; one text, or several of equal length."""
        rows = [_encode(self, t) for t in ([text] if isinstance(text, str) else text)]
        if len({len(r) for r in rows}) > 1:
            raise InputError(
                f"to_tokens makes one rectangle and these texts have {sorted({len(r) for r in rows})} "
                "tokens; use engram_interp.capture.record, which pads and masks."
            )
        return torch.tensor(rows, dtype=torch.int64, device=self.embed.weight.device)

    def to_single_token(self, text: str) -> int:
        """The id of a text that is exactly one token.

        Raises:
            InputError: If it is not.
        """
        ids = _encode(self, text)[1:]
        if len(ids) != 1:
            raise InputError(f"Wanted a text of one token, got {text!r}, which is {len(ids)}; shorten it.")
        return ids[0]

    def tokens_to_residual_directions(self, tokens: str | int | Tensor) -> Float[Tensor, "*batch d_model"]:
        """Unembedding directions of one token or a tensor of token ids."""
        if isinstance(tokens, str):
            tokens = self.to_single_token(tokens)
        return self.embed.weight[torch.as_tensor(tokens)]

    def checked_tokens(self, tokens: Any) -> Int64[Tensor, "batch token"]:
        """Token ids as a rectangle on the model's device, or an error that says what is wrong."""
        first = tokens[0] if isinstance(tokens, list) and tokens else tokens
        ids = self.to_tokens(tokens) if isinstance(first, str) else torch.as_tensor(tokens)
        ids = (ids[None] if ids.ndim == 1 else ids).to(self.embed.weight.device)
        if ids.ndim != 2 or ids.is_floating_point() or ids.numel() == 0:
            raise InputError(
                f"The model wants integer ids [batch, token], got {ids.dtype} {tuple(ids.shape)}."
            )
        if ids.shape[1] > self.cfg.n_ctx:
            raise InputError(
                f"The input has {ids.shape[1]} tokens and the context holds {self.cfg.n_ctx}; shorten it or "
                "analyse it in windows."
            )
        if int(ids.min()) < 0 or int(ids.max()) >= self.cfg.d_vocab:
            raise InputError(
                f"Token ids want to lie in 0 … {self.cfg.d_vocab - 1}, got {int(ids.min())} … "
                f"{int(ids.max())}; was the text encoded with another tokenizer?"
            )
        return ids.long()

    def run_with_cache(self, *args: Any, return_cache_object: bool = True, **kwargs: Any) -> Any:
        """TransformerLens's `run_with_cache`, giving an `EngramCache`; cached tensors are copies.

        `pos_slice` cuts the token axis of every site, also where streams, heads or columns follow it
        (TransformerLens's own would cut those).

        Raises:
            InputError: If a name or filter matches no hook point.
        """
        names = kwargs.get("names_filter")
        wanted = [names] if isinstance(names, str) else names if isinstance(names, list) else []
        unknown = sorted(set(wanted) - set(self.hook_dict))
        if unknown:
            raise InputError(
                f"This model has no hook points {unknown}; list(model.hook_dict) names them all."
            )
        remove_batch = bool(kwargs.get("remove_batch_dim", False))
        cut = Slice.unwrap(kwargs.pop("pos_slice", None))
        output, cache = super().run_with_cache(*args, **kwargs)
        if not cache:
            raise InputError("The names filter matched no hook point; list(model.hook_dict) names them all.")
        cache = {
            name: value.clone() if axis is None else cut.apply(value, dim=axis - remove_batch).clone()
            for name, value in cache.items()
            for axis in [_token_axis(name.removesuffix("_grad"))]
        }
        if not return_cache_object:
            return output, cache
        return output, EngramCache(cache, self, has_batch_dim=not remove_batch)

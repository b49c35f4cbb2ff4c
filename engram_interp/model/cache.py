"""TransformerLens's activation cache, with the memory's writes in the sums."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.ActivationCache import ActivationCache
from transformer_lens.utilities import Slice

from engram_interp.errors import InputError
from engram_interp.model.config import ModelConfig


class EngramCache(ActivationCache):
    """An `ActivationCache` whose decompositions include what each memory wrote.

    `decompose_resid` and `get_full_resid_decomposition` sum to the residual only with the parts
    "{l}_engram_out". The write of layer l comes after `resid_pre` of l and before its attention, so it
    belongs to the parts of every later residual, and to `mlp_input` of its own layer.
    """

    def __getitem__(self, key: Any) -> Tensor:
        """As in TransformerLens; ("gate", l, "engram") names the memory's own sites."""
        if isinstance(key, tuple) and len(key) == 3 and key[2] == "engram":
            layer = key[1] % self.model.cfg.n_layers
            found: Tensor = self.cache_dict[f"blocks.{layer}.engram.hook_{key[0]}"]
            return found
        if isinstance(key, tuple) and len(key) == 2 and key[0] == "engram_out":
            out: Tensor = self.cache_dict[f"blocks.{key[1] % self.model.cfg.n_layers}.hook_engram_out"]
            return out
        value: Tensor = super().__getitem__(key)
        return value

    @property
    def _cfg(self) -> ModelConfig:
        cfg: Any = self.model.cfg
        assert isinstance(cfg, ModelConfig)
        return cfg

    def _one_stream(self) -> None:
        streams = self._cfg.n_streams
        if streams > 1:
            raise InputError(
                f"Residual sums want one residual stream and this model has {streams}, mixed anew at every "
                "sublayer; its parts do not simply add up. Read single sublayers' outputs instead."
            )

    def engram_writes(
        self, layer: int, *, mlp_input: bool = False, pos_slice: Any = None
    ) -> tuple[Float[Tensor, "part *batch_token d_model"] | None, list[str]]:
        """What the memories below a residual wrote, and the labels; None if there are none."""
        cut = pos_slice if isinstance(pos_slice, Slice) else Slice(pos_slice)
        last = layer + 1 if mlp_input else layer
        layers = [m for m in self._cfg.memory_layers if m < last]
        parts = [cut.apply(self.cache_dict[f"blocks.{m}.hook_engram_out"], dim=-2) for m in layers]
        return (torch.stack(parts) if parts else None), [f"{m}_engram_out" for m in layers]

    def accumulated_resid(self, *args: Any, **kwargs: Any) -> Any:
        """As in TransformerLens."""
        self._one_stream()
        return super().accumulated_resid(*args, **kwargs)

    def apply_ln_to_stack(self, *args: Any, **kwargs: Any) -> Any:
        """As in TransformerLens."""
        self._one_stream()
        return super().apply_ln_to_stack(*args, **kwargs)

    def decompose_resid(  # noqa: PLR0917  # TransformerLens's signature
        self,
        layer: int | None = None,
        mlp_input: bool = False,
        mode: Literal["all", "mlp", "attn"] = "all",
        apply_ln: bool = False,
        pos_slice: Any = None,
        incl_embeds: bool = True,
        return_labels: bool = False,
    ) -> Any:
        """As in TransformerLens, with the memory's writes last; they are part of mode "all" only."""
        self._one_stream()
        layer = self._cfg.n_layers if layer is None or layer == -1 else layer
        parts: Any
        parts, labels = super().decompose_resid(
            layer,
            mlp_input=mlp_input,
            mode=mode,
            pos_slice=pos_slice,
            incl_embeds=incl_embeds,
            return_labels=True,
        )
        if mode == "all":
            writes, names = self.engram_writes(layer, mlp_input=mlp_input, pos_slice=pos_slice)
            if writes is not None:
                parts, labels = torch.cat([parts, writes]), labels + names
        if apply_ln:
            parts = self.apply_ln_to_stack(parts, layer, pos_slice=pos_slice, mlp_input=mlp_input)
        return (parts, labels) if return_labels else parts

    def get_full_resid_decomposition(  # noqa: PLR0917  # TransformerLens's signature
        self,
        layer: int | None = None,
        mlp_input: bool = False,
        expand_neurons: bool = True,
        apply_ln: bool = False,
        pos_slice: Any = None,
        return_labels: bool = False,
        project_output_onto: Tensor | None = None,
    ) -> Any:
        """As in TransformerLens, with the memory's writes last.

        Raises:
            InputError: If neurons are wanted of a mixture of experts, whose neurons differ by token.
        """
        self._one_stream()
        if expand_neurons and self._cfg.n_experts:
            raise InputError(
                "A mixture of experts has no neurons shared by all tokens; pass expand_neurons=False for "
                "whole feed-forward outputs."
            )
        layer = self._cfg.n_layers if layer is None or layer == -1 else layer
        parts: Any
        parts, labels = super().get_full_resid_decomposition(
            layer,
            mlp_input=mlp_input,
            expand_neurons=expand_neurons,
            apply_ln=apply_ln,
            pos_slice=pos_slice,
            return_labels=True,
            project_output_onto=project_output_onto,
        )
        writes, names = self.engram_writes(layer, mlp_input=mlp_input, pos_slice=pos_slice)
        if writes is not None:
            if apply_ln:
                writes = self.apply_ln_to_stack(writes, layer, pos_slice=pos_slice, mlp_input=mlp_input)
            if project_output_onto is not None:
                writes = writes @ project_output_onto
            parts, labels = torch.cat([parts, writes]), labels + names
        return (parts, labels) if return_labels else parts

"""Released tensors read, decoded to float32 and put into our modules."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from engram_interp.checkpoints import decoding
from engram_interp.checkpoints.deepseek_v41 import layout
from engram_interp.checkpoints.deepseek_v41.layout import Stage, Stored
from engram_interp.checkpoints.sharded import Shards
from engram_interp.checkpoints.tensor_files import Reader
from engram_interp.model.deepseek_v41.backbone import DeepSeekV41
from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.experts import Expert

_DECODERS = {"fp8": decoding.fp8, "fp8_rows": decoding.fp8_rows, "fp4": decoding.fp4}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where weights come from.

    Attributes:
        cfg: The model.
        shards: Its tensors.
        reader: Reads and counts.
    """

    cfg: V41Config
    shards: Shards
    reader: Reader

    def read(self, stored: Stored) -> Tensor:
        """A parameter in float32.

        Raises:
            InputError: If its shard is missing.
        """
        weight = self.shards.place(stored.name)
        if stored.kind in _DECODERS:
            scale = self.reader.raw(self.shards.place(stored.scale))[..., 0]
            return _DECODERS[stored.kind](self.reader.raw(weight)[..., 0], scale)
        return self.reader.tensor(weight).float()

    def expert(self, layer: int, number: int) -> Expert:
        """One routed expert."""
        with torch.device("meta"):
            made = Expert(self.cfg.d_model, self.cfg.d_expert, self.cfg.expert_limit)
        self.fill(made, layout.expert(self.cfg, layer, number))
        return made

    def fill(self, module: nn.Module, parameters: Iterable[Stored]) -> None:
        """Put parameters into a module in place of what was there."""
        for stored in parameters:
            if not stored.paths:
                continue
            values = self.read(stored)
            rows = [module.get_parameter(path).shape[0] for path in stored.paths]
            for path, part in zip(stored.paths, values.split(rows), strict=True):
                _replace(module, path, part)

    def fill_stage(self, block: nn.Module, layer: int, stage: Stage) -> None:
        """Put a stage's parameters into a block; the table's rows and the routed experts stay away."""
        self.fill(block, layout.block(self.cfg, layer, stage))


def _replace(module: nn.Module, path: str, value: Tensor) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, nn.Parameter(value, requires_grad=False))


def forget_stage(block: nn.Module, cfg: V41Config, layer: int, stage: Stage) -> None:
    """Give a stage's parameters back, leaving their shapes."""
    for stored in layout.block(cfg, layer, stage):
        for path in stored.paths:
            _replace(block, path, module_shape(block.get_parameter(path)))


def module_shape(value: Tensor) -> Tensor:
    """A tensor of the same shape that holds no numbers."""
    return torch.empty_like(value, device="meta")


def skeleton(cfg: V41Config, *, token_map: np.ndarray | None = None) -> DeepSeekV41:
    """The model with its hooks and shapes and without any weights or routed experts."""
    with torch.device("meta"):
        model = DeepSeekV41(cfg, token_map=token_map)
    return model.eval().requires_grad_(False)


def fill_all(model: DeepSeekV41, source: Source) -> None:
    """Read every weight of the model into memory."""
    cfg = source.cfg
    source.fill(model, layout.outer(cfg))
    for layer, block in enumerate(model.blocks):
        for stage in ("engram", "attn", "mlp"):
            source.fill_stage(block, layer, stage)
        if layer in cfg.memory_layers:
            source.fill(block, [layout.table(cfg, layer)])
        mlp = block.get_submodule("mlp")
        assert isinstance(mlp.experts, nn.ModuleList)
        mlp.experts.extend(source.expert(layer, number) for number in range(cfg.n_experts))
    model.requires_grad_(False)

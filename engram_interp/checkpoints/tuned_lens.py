"""A tuned lens on disk: one affine map per layer in safetensors, and the facts of its training in JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from engram_interp.checkpoints.files import read_json, read_tensors, replacing, write_json
from engram_interp.errors import DamagedFileError, InputError

TENSORS, FACTS = "tuned_lens.safetensors", "tuned_lens.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedLens:
    """One translator per layer, ``h + A h + b``, read by the model's own final norm and unembedding.

    Attributes:
        matrix: A of every layer; zero is the raw lens.
        bias: b of every layer.
        model_digest: Digest of the weights it was trained for.
        facts: How it was trained: text digest, tokens, losses by layer, seed, versions.
    """

    matrix: Float[Tensor, "layer d_model column"]
    bias: Float[Tensor, "layer d_model"]
    model_digest: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def translate(self, layer: int, resid: Float[Tensor, "*batch d_model"]) -> Tensor:
        """The residual after block `layer`, in the final layer's language."""
        matrix, bias = self.matrix[layer].to(resid), self.bias[layer].to(resid)
        return resid + resid @ matrix.mT + bias

    def check(self, *, name: str, digest: str, n_layers: int, d_model: int) -> None:
        """Refuse another model.

        Raises:
            InputError: If the sizes or the digest of the weights differ.
        """
        wanted = (n_layers, d_model, d_model)
        if tuple(self.matrix.shape) != wanted or tuple(self.bias.shape) != wanted[:2]:
            raise InputError(
                f"The tuned lens is of {len(self.matrix)} layers of width {self.matrix.shape[-1]}, {name} "
                f"has {n_layers} of {d_model}; train one for it with lens_tuned.train."
            )
        if self.model_digest != digest:
            raise InputError(
                f"The tuned lens was trained for weights {self.model_digest[:12] or 'without a digest'}, "
                f"{name} has {digest[:12] or 'no digest'}; train one for it with lens_tuned.train."
            )

    def save(self, directory: str | Path) -> Path:
        """Write tuned_lens.safetensors (bfloat16) and tuned_lens.json into a directory, made if missing."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {"matrix": self.matrix, "bias": self.bias}
        with replacing(directory / TENSORS) as temporary:
            save_file({k: v.to(torch.bfloat16).contiguous().cpu() for k, v in tensors.items()}, temporary)
            temporary.chmod(0o644)  # safetensors lets only the owner read
        write_json(directory / FACTS, {"model_digest": self.model_digest, **self.facts})
        return directory

    @classmethod
    def load(cls, directory: str | Path) -> "TunedLens":
        """Read what `save` wrote.

        Raises:
            InputError: If a file is missing.
            DamagedFileError: If a file is cut short or holds something else.
        """
        directory = Path(directory)
        facts, tensors = read_json(directory / FACTS), read_tensors(directory / TENSORS)
        if set(tensors) != {"matrix", "bias"} or "model_digest" not in facts:
            raise DamagedFileError(f"{directory} holds no tuned lens; write it again with tune-lens.")
        digest = str(facts.pop("model_digest"))
        return cls(
            matrix=tensors["matrix"].float(), bias=tensors["bias"].float(), model_digest=digest, facts=facts
        )

"""Digests of what a model is made of, so that results of different ones are not taken for the same."""

import hashlib

import torch
from tokenizers import Tokenizer

from engram_interp.checkpoints.subject import SubjectModel


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 of a tokenizer's definition."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def weights_digest(model: SubjectModel) -> str:
    """The model's own digest, or where it has none SHA-256 over every tensor of the module as it is now."""
    if model.digest:
        return model.digest
    digest = hashlib.sha256()
    for name, value in sorted(model.module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

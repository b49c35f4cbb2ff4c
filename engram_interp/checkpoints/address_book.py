"""DeepSeek-V4.1's tables without their weights: what every text would look up, from two small files.

`config.json` and `tokenizer.json` fix every address. What is not checked here cannot be seen later: a wrong
hash reads rows that look like any others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from tokenizers import Tokenizer
from torch import Tensor, nn

from engram_interp.checkpoints.deepseek_v41.config import MODEL_TYPE, PUBLISHED_MAPS, memory_of, token_named
from engram_interp.checkpoints.native import map_digest
from engram_interp.checkpoints.repository import (
    Directory,
    Repository,
    is_remote,
    open_repository,
    read_object,
)
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory import hashing

_FIELDS = {
    "engram_layer_ids",
    "engram_num_embeddings",
    "engram_max_ngram_size",
    "engram_vocab_size",
    "engram_n_heads",
    "engram_head_dim",
    "engram_pad_token_id",
    "engram_compressed_vocab_size",
}
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "hc_mult")


def is_v41(values: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a DeepSeek-V4.1 model."""
    return values.get("model_type") in (MODEL_TYPE, f"{MODEL_TYPE}_text")


def is_book(place: str | Path) -> bool:
    """Whether a place is an address, or a directory with the config.json of a DeepSeek-V4.1 model."""
    if is_remote(place):
        return True
    path = Path(place) / "config.json"
    return path.is_file() and is_v41(read_object(Directory(path=Path(place)), "config.json"))


@dataclass(frozen=True, kw_only=True)
class AddressBook:
    """Everything that fixes an address of a V4.1 model, and nothing that needs its weights.

    Attributes:
        model: The model without weights: it names n-grams and rows (`slots.index` takes it) and cannot be
            run.
        repository: Where its files lie.
        pad_id: Canonical id hashed where a window looks before the start or at a dead token.
        dead_ids: Token ids that the memory does not see: images.
        d_row: Channels of a row.
    """

    model: SubjectModel
    repository: Repository
    pad_id: int
    dead_ids: tuple[int, ...]
    d_row: int

    def dead(self, tokens: Int64[Tensor, "batch token"]) -> Bool[Tensor, "batch token"]:
        """Which tokens are dead: windows stop there, and their gate is shut."""
        return torch.isin(tokens, torch.tensor(self.dead_ids, dtype=tokens.dtype))

    def addresses(self, tokens: Int64[Tensor, "batch token"]) -> Int64[Tensor, "batch token layer column"]:
        """The rows that each token looks up in every memory layer's table."""
        assert self.model.layout is not None and self.model.token_map is not None
        canonical = torch.from_numpy(self.model.token_map)[tokens].masked_fill(
            self.dead(tokens), hashing.DEAD
        )
        return hashing.addresses(canonical, self.model.layout, pad_id=self.pad_id)


def open_addresses(place: str | Path, *, name: str | None = None) -> AddressBook:
    """The address book of a DeepSeek-V4.1 model, from its config.json and tokenizer.json alone.

    Args:
        place: A directory, ``https://…`` or ``hf://OWNER/NAME`` (see `open_repository`).
        name: What results call the model; by default the directory's name, or the address.

    Raises:
        InputError: If a file is missing, the model is of another family or has an unknown hash rule, or
            the tokenizer does not give the canonical vocabulary that the configuration names.
        DamagedFileError: If a file is cut short.
    """
    repository = open_repository(place)
    values = read_object(repository, "config.json")
    if not is_v41(values):
        raise InputError(
            f"{repository.name} is of family {values.get('model_type')!r}, and addresses without weights are "
            f"known of {MODEL_TYPE} alone; give the model to load_model."
        )
    text = _checked(values, repository.name)
    tokenizer = _tokenizer(repository)
    token_map = _canonical(text, tokenizer, repository.name)
    config = memory_of(text)
    layout = config.layout(n_ids=text["engram_compressed_vocab_size"])
    if layout.rows.tolist() != list(text["engram_num_embeddings"]):
        raise InputError(
            f"The hash rule gives tables of {layout.rows.tolist()} rows and the configuration of "
            f"{repository.name} says {list(text['engram_num_embeddings'])}; it hashes by another rule, and "
            "every address would be wrong."
        )
    folder = repository.path.resolve() if isinstance(repository, Directory) else None
    image = token_named(values, "image_token_id")
    dead_ids = () if image is None else (int(image),)
    return AddressBook(
        model=SubjectModel(
            module=_NoWeights(),
            tokenizer=tokenizer,
            name=name or (repository.name if folder is None else folder.name),
            family=MODEL_TYPE,
            sites={},
            n_layers=text["num_hidden_layers"],
            d_model=text["hidden_size"],
            d_vocab=text["vocab_size"],
            n_streams=text["hc_mult"],
            memory_layers=config.layer_ids,
            separator_id=token_named(values, "bos_token_id"),
            dead_ids=dead_ids,
            layout=layout,
            token_map=token_map,
            folder=folder,
            notes=("Only addresses are known: no weight of the network was read.",),
        ),
        repository=repository,
        pad_id=int(token_map[config.pad_token]),
        dead_ids=dead_ids,
        d_row=config.d_row,
    )


class _NoWeights(nn.Module):
    """Stands where the weights would be."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, tokens: Int64[Tensor, "batch token"]) -> Tensor:
        """Refuses to run.

        Raises:
            InputError: Always.
        """
        raise InputError(
            f"Only addresses are known of this model, no weights, so it cannot be run on {tokens.numel()} "
            "tokens; load the checkpoint."
        )


def _checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The text part of the configuration, with every field that fixes an address and none that is unknown."""
    text: dict[str, Any] = values.get("text_config", values)
    missing = sorted((_FIELDS | set(_SIZES)) - set(text))
    if missing:
        raise InputError(
            f"The configuration of {where} lacks {', '.join(missing)}, which fix addresses; fetch it again."
        )
    unknown = sorted(name for name in text if name.startswith("engram_") and name not in _FIELDS)
    if unknown:
        raise InputError(
            f"The configuration of {where} has {', '.join(unknown)}, which this version does not know: "
            "it may hash by another rule."
        )
    return text


def _tokenizer(repository: Repository) -> Tokenizer:
    content = repository.whole("tokenizer.json")
    try:
        return Tokenizer.from_buffer(content)
    except Exception as cause:  # tokenizers raises bare Exception
        raise DamagedFileError(
            f"tokenizer.json of {repository.name} is not a tokenizer file ({cause}); fetch it again."
        ) from cause


def _canonical(text: Mapping[str, Any], tokenizer: Tokenizer, where: str) -> Int64[np.ndarray, " d_vocab"]:
    """The token map, compared with what the checkpoint says of it."""
    token_map, count = hashing.token_map(tokenizer)
    wanted = text["engram_compressed_vocab_size"]
    if (len(token_map), count) != (text["vocab_size"], wanted):
        raise InputError(
            f"The tokenizer of {where} has {len(token_map):,} ids and {count:,} canonical ids, and the "
            f"checkpoint was trained with {text['vocab_size']:,} and {wanted:,}, so every address would be "
            "wrong; put the model's own tokenizer.json there."
        )
    published = PUBLISHED_MAPS.get((len(token_map), count))
    if published is not None and map_digest(token_map) != published:
        raise InputError(
            f"The tokenizer of {where} has {count:,} canonical ids as DeepSeek-V4.1 does, but others, so "
            "addresses would be wrong; put the model's own tokenizer.json there."
        )
    return token_map

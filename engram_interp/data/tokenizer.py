"""A byte-level BPE tokenizer trained on the text a model is trained on."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from engram_interp.data.documents import SEPARATOR
from engram_interp.errors import InputError


def train_tokenizer(texts: Iterable[str], *, d_vocab: int) -> Tokenizer:
    """Byte-level BPE over the texts; id 0 is the document separator.

    Args:
        texts: Training documents.
        d_vocab: Size of the vocabulary, at least 257 (256 bytes and the separator).

    Raises:
        InputError: If d_vocab is too small.
    """
    if d_vocab < 257:
        raise InputError(f"A byte-level vocabulary wants at least 257 ids, got {d_vocab}.")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=d_vocab,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer

"""``engram-interp evaluate``: held-out loss of a model, in nats a token and bits a byte."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from engram_interp.cli.progress import progress
from engram_interp.errors import InputError

EXAMPLE = """\b
Examples:
  engram-interp evaluate wiki-nano --text valid.txt.xz
  engram-interp evaluate runs/mine --text a.txt b.txt --json"""


def evaluate(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A model directory, or a packaged pair's name (NAME/baseline)."),
    ],
    *,
    text: Annotated[
        list[Path], typer.Option(metavar="FILE...", help="Text files, plain or .xz; one or several.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Measure the loss on text that the model was not trained on.

    A line <|endoftext|> ends a document. Every document is opened by the separator, the documents are
    joined to one stream, and the stream is cut into consecutive windows of the context length; each
    token after the first is predicted once, from what precedes it in its window. A tail
    shorter than a window is left out, and said.

    Nats per token is the mean of -ln p over predicted tokens, separators included. Bits per byte is the
    same sum over ln 2, divided by the UTF-8 bytes of the predicted text (separators have none), and
    compares models with different tokenizers.
    """
    from engram_interp.checkpoints import load_model
    from engram_interp.data.documents import documents
    from engram_interp.data.packing import encode_stream
    from engram_interp.model.training.evaluate import held_out_loss
    from engram_interp.model.transformer import HookedEngramTransformer

    texts = list(documents(text))
    subject = load_model(model)
    if not isinstance(subject.module, HookedEngramTransformer) or subject.separator_id is None:
        raise InputError(f"{subject.name} is of family {subject.family}; evaluate reads native models.")
    length = subject.module.cfg.n_ctx
    stream = encode_stream(texts, subject.tokenizer, separator_id=subject.separator_id)
    windows, tail = divmod(len(stream) - 1, length)
    if windows < 1:
        raise InputError(
            f"The text has {len(stream):,} tokens and one window wants {length + 1}; give more text."
        )
    with progress(windows, every=10) as update:
        found = held_out_loss(
            subject.module, stream, progress=lambda n: update(n, f"{n:,} of {windows:,} windows")
        )
    predicted = stream[1 : windows * length + 1].tolist()
    spoken = [i for i in predicted if i != subject.separator_id]
    n_bytes = len(subject.tokenizer.decode(spoken, skip_special_tokens=False).encode())
    facts: dict[str, Any] = {
        "model": subject.name,
        "nats_per_token": found.loss,
        "bits_per_byte": found.loss * found.tokens / math.log(2) / n_bytes,
        "tokens": found.tokens,
        "bytes": n_bytes,
        "tokens_left_out": tail,
        "documents": len(texts),
        "context": length,
        "model_digest": subject.digest,
    }
    typer.echo(json.dumps(facts, allow_nan=False) if as_json else _said(facts))


def _said(facts: dict[str, Any]) -> str:
    return (
        "{model}: {nats_per_token:.4f} nats per token, {bits_per_byte:.4f} bits per byte "
        "({tokens:,} tokens, {bytes:,} bytes of {documents:,} documents; windows of {context} tokens, "
        "{tokens_left_out:,} tokens at the end left out)".format(**facts)
    )

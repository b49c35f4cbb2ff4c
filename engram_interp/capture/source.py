"""What an analysis of layers reads from: a model that is run, or a capture that was written to disk.

Both give the same prompts, the same samples and the same numbers; only a model can be changed.
"""

from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from engram_interp.capture import captured
from engram_interp.capture.captured import Capture
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.record import Recording, record, run_batches
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError

Source = SubjectModel | Capture


def encoded_of(source: Source, texts: Any, *, limit: int | None = None) -> Encoded:
    """The prompts as the source encodes them: texts for a model, its own for a capture.

    Args:
        source: The model or capture.
        texts: What `encode` takes; None for a capture, which knows its prompts.
        limit: Most tokens a prompt.

    Raises:
        InputError: If texts are missing for a model, or given for a capture.
    """
    if isinstance(source, Capture):
        if texts is not None:
            raise InputError(
                f"The capture of {source.name} holds its own prompts; leave texts out, and give captures for "
                "all models."
            )
        return source.encoded if limit is None else source.encoded.cropped(limit)
    if texts is None:
        raise InputError(f"{source.name} is a model and wants texts to run on; only captures do without.")
    return encode(source, texts, limit=limit)


def check_sites(source: Source, sites: Sequence[str]) -> None:
    """Raise unless the source has every one of the sites.

    Raises:
        InputError: Names the first that is missing, and how to get it.
    """
    missing = [site for site in sites if site not in source.sites]
    if not missing:
        return
    if isinstance(source, Capture):
        raise InputError(
            f"The capture of {source.name} lacks {missing[0]}; capture again with "
            '--sites "blocks.*.hook_resid_post".'
        )
    raise InputError(f"{source.name} has no {missing[0]}; add it to wrap's sites.")


def batches(
    source: Source, encoded: Encoded, sites: Sequence[str], *, batch_size: int = 16
) -> Generator[tuple[Tensor | None, dict[str, Tensor]], None, None]:
    """Sites batch by batch, for consecutive prompts; see `run_batches`.

    Yields:
        Logits `[batch, token, d_vocab]`, None from a capture, and `{site: [batch, token, …]}`.
    """
    if isinstance(source, Capture):
        yield from captured.batches(source, encoded, sites, batch_size=batch_size)
    else:
        yield from run_batches(source, encoded, sites, batch_size=batch_size)


def recorded(source: Source, encoded: Encoded, sites: Sequence[str]) -> Recording:
    """All prompts at some sites, in memory, without logits; see `record`."""
    if isinstance(source, SubjectModel):
        return record(source, encoded, sites=sites, logits=False)
    parts = [seen for _, seen in captured.batches(source, encoded, sites, batch_size=max(1, len(encoded)))]
    return Recording(
        sites={site: torch.cat([seen[site].cpu() for seen in parts]) for site in sites},
        tokens=encoded.tokens.cpu(),
        mask=encoded.mask.cpu(),
        encoded=encoded,
        n_streams=source.n_streams,
    )


def model_of(source: Source) -> SubjectModel:
    """The model behind the source: for its lens head and its collapse. A capture opens it when asked."""
    return source.model if isinstance(source, Capture) else source

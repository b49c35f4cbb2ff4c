"""Recording sites of a model on prompts, in memory."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.intervene import tensor_of
from engram_interp.capture.sites import axes, resolve
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What was seen at each site, right-padded along the token axis; `rec[site]` is its tensor.

    Attributes:
        sites: Site → tensor `[batch, token, …]` on the CPU.
        tokens: Token ids `[batch, token]`, padded with 0.
        mask: True at real tokens.
        encoded: Entity ends, names and texts of the prompts.
        n_streams: Residual streams of the model.
        output: Logits `[batch, token, d_vocab]`, unless they were not wanted.
    """

    sites: Mapping[str, Tensor]
    tokens: Int64[Tensor, "batch token"]
    mask: Bool[Tensor, "batch token"]
    encoded: Encoded
    n_streams: int
    output: Float[Tensor, "batch token d_vocab"] | None = field(default=None, repr=False)

    def __getitem__(self, site: str) -> Tensor:
        if site not in self.sites:
            raise InputError(f"{site!r} was not recorded; recorded were {sorted(self.sites)}.")
        return self.sites[site]

    @property
    def logits(self) -> Float[Tensor, "batch token d_vocab"]:
        """Logits at every position.

        Raises:
            InputError: If the recording was made with logits=False.
        """
        if self.output is None:
            raise InputError("The logits were not kept; record again with logits=True.")
        return self.output

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know, such as prompts that did not fit the context."""
        return self.encoded.notes

    def axes(self, site: str) -> tuple[str, ...] | None:
        """Names of the axes of a site's tensor; None for a site without a fixed meaning."""
        return axes(site, n_streams=self.n_streams)


def record(
    model: SubjectModel,
    texts_or_ids: Any,
    *,
    sites: Sequence[str] = (),
    batch_size: int = 16,
    logits: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Recording:
    """Run the model on prompts and keep what passes chosen sites.

    The model is left as it was: hooks live only as long as the run, tensors are copies, and nothing is
    differentiated.

    Args:
        model: The model.
        texts_or_ids: Texts, a `PromptSet`, or token ids (see `encode`).
        sites: Site names or patterns such as ``blocks.*.hook_resid_post``; none for logits only.
        batch_size: Prompts per forward pass.
        logits: Whether to keep the logits.
        dtype: Floating-point type that is kept.

    Raises:
        InputError: If a site is unknown (the nearest are named) or a prompt is empty.
    """
    encoded = texts_or_ids if isinstance(texts_or_ids, Encoded) else encode(model, texts_or_ids)
    wanted = resolve(model, sites)
    parts: dict[str, list[Tensor]] = {name: [] for name in wanted}
    outputs: list[Tensor] = []
    with closing(run_batches(model, encoded, wanted, batch_size=batch_size)) as batches:
        for output, seen in batches:
            for name in wanted:
                value = seen[name]
                parts[name].append(value.to("cpu", dtype) if value.is_floating_point() else value.cpu())
            if logits:
                outputs.append(output.to("cpu", dtype))
    return Recording(
        sites={name: torch.cat(values) for name, values in parts.items()},
        tokens=encoded.tokens.cpu(),
        mask=encoded.mask.cpu(),
        encoded=encoded,
        n_streams=model.n_streams,
        output=torch.cat(outputs) if logits else None,
    )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block, for every part; afterwards each part is in the mode it was in.

    Looking at a model in training would otherwise count as training: dropout, expert load.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def watching(
    model: SubjectModel, sites: Sequence[str], keep: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """While the block runs, `keep(site, tensor)` is called with what passes each site.

    The tensor is the model's own and detached: what outlives the call must be copied.

    Args:
        model: The model.
        sites: Names the model has.
        keep: What to do with a site's tensor `[batch, token, …]`.
    """
    with ExitStack() as stack:
        for name in sites:

            def hook(_module: Any, _inputs: Any, output: Any, name: str = name) -> None:
                keep(name, tensor_of(output).detach())

            module = model.module.get_submodule(model.sites[name])
            stack.callback(module.register_forward_hook(hook).remove)
        yield


def run_batches(
    model: SubjectModel, encoded: Encoded, sites: Sequence[str], *, batch_size: int = 16
) -> Generator[tuple[Tensor, dict[str, Tensor]], None, None]:
    """Logits and site tensors batch by batch, on the model's device, cloned.

    The hooks come off when the last batch is taken or the generator is closed.

    Args:
        model: The model.
        encoded: Prompts as `encode` gave them.
        sites: Names the model has.
        batch_size: Prompts per forward pass.

    Yields:
        Logits `[batch, token, d_vocab]` and `{site: [batch, token, …]}` for consecutive prompts.
    """
    if batch_size < 1:
        raise InputError(f"batch_size wants to be at least 1, got {batch_size}.")
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        seen[name] = value.clone()

    with evaluating(model.module), watching(model, sites, keep):
        for start in range(0, len(encoded), batch_size):
            rows = slice(start, start + batch_size)
            # Not around the yield: the mode would leak into the caller's code.
            with torch.inference_mode():
                output = model.logits(encoded.tokens[rows], encoded.mask[rows])
            missing = [name for name in sites if name not in seen]
            if missing:
                raise InputError(
                    f"{model.name} ran without passing {missing[:3]}; this site is only there in some "
                    "configurations."
                )
            yield output, dict(seen)
            seen.clear()

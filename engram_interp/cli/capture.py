"""``engram-interp capture``: what passes chosen sites on a corpus, streamed to disk."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from engram_interp.cli.progress import progress
from engram_interp.errors import InputError

if TYPE_CHECKING:
    from engram_interp.capture.store import Capture, Progress
    from engram_interp.capture.streamed import Step
    from engram_interp.checkpoints import SubjectModel
    from engram_interp.cli.progress import Update
    from engram_interp.data.prompts import PromptSet

EXAMPLE = """\b
Examples:
  engram-interp capture wiki-nano --text a.txt.xz --sites "blocks.*.hook_resid_post" --out acts
  engram-interp capture runs/mine --prompts entities --sites "blocks.*.engram.hook_gate" --out gates
  engram-interp capture wiki-nano --text a.txt.xz --sites "blocks.*.hook_resid_post" --out acts --shard 2/4
  engram-interp capture V4.1-Flash --prompts entities --sites "blocks.*.engram.hook_gate" --out gates \
      --stop-after-layer 1 --plan"""


def capture(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A model directory, or a packaged model's name (NAME/baseline)."
        ),
    ],
    *,
    sites: Annotated[
        list[str],
        typer.Option(metavar="SITE...", help='Site names or patterns ("blocks.*.hook_resid_post").'),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Directory: new or empty, or with --resume the same capture's."),
    ],
    text: Annotated[
        list[Path] | None, typer.Option(metavar="FILE...", help="Text files, plain or .xz; one or several.")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="In place of --text: packaged prompts, or .txt or .jsonl."),
    ] = None,
    long: Annotated[
        Literal["cut", "split"],
        typer.Option(help="Documents beyond the context: keep their first tokens, or split into windows."),
    ] = "cut",
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Type of the numbers on disk.")
    ] = "float32",
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Prompts per forward pass.")] = 16,
    shard: Annotated[str, typer.Option(metavar="i/n", help="Capture the i-th of n shares only.")] = "1/1",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the capture in --out.")] = False,
    stop_after_layer: Annotated[
        int | None, typer.Option(metavar="L", min=0, help="The last layer to run; later sites are left out.")
    ] = None,
    weights: Annotated[
        Literal["auto", "memory", "disk"],
        typer.Option(help="DeepSeek-V4.1: read into memory, or streamed layer by layer; auto: what fits."),
    ] = "auto",
    plan: Annotated[
        bool, typer.Option("--plan", help="Streamed: only say what it would read, take and cost.")
    ] = False,
) -> None:
    """Run a model on text and write what passes chosen sites, in files of about 32 MB.

    A line <|endoftext|> in a text file ends a document. [[Entities]] marked in --prompts are kept as such,
    so that models can be compared there. `depth.compare`, `opinions.compare`, `lens.convergence` and
    `lens_depth.compare` read a capture in place of a model: `capture.store.open_capture(DIR)`.

    With --long split, windows of one document count as documents of their own in later intervals, which
    makes those too narrow.

    Killed at any moment, --resume goes on from the last whole file and ends in the same bytes. With
    --shard, n machines each write their part of one capture.

    A DeepSeek-V4.1 model that does not fit the memory is streamed: all prompts go through one layer at a
    time, each weight is read once, and of the tables only the rows that the prompts read. What that will
    cost is said first; --plan says it and stops. It resumes after the last whole layer.
    """
    if (text is None) == (prompts is None):
        raise typer.BadParameter("give either --text or --prompts.")
    number, _, parts = shard.partition("/")
    if not (number.isdecimal() and parts.isdecimal()):
        raise typer.BadParameter(f"--shard wants i/n, such as 2/4; got {shard!r}.")
    from engram_interp.capture import store, streamed
    from engram_interp.capture.plan import DTYPES
    from engram_interp.capture.sites import until
    from engram_interp.checkpoints import load_model

    subject = load_model(model, weights="disk" if plan else weights)
    texts = _texts(text, prompts)
    if long == "split":
        texts = _windows(subject, texts)
    wish: dict[str, Any] = {"dtype": DTYPES[dtype], "batch_size": batch, "shard": (int(number), int(parts))}
    wish["sites"] = until(subject, sites, stop_after_layer)
    streaming = streamed.on_disk(subject)
    if streaming:
        lines = "\n".join(streamed.planned(subject, texts, **wish).lines())
        typer.echo(lines, err=not plan)
    if plan:
        if not streaming:
            typer.echo(
                f"{model} fits in memory and is captured in one go: there is no plan to print. Leave --plan "
                "out to capture it."
            )
        return
    try:
        with progress(1.0, every=10) as update:
            update(0.0, f"reading {len(texts):,} prompts")
            report = _Reporter(update)
            run: Callable[..., Path] = streamed.capture if streaming else store.capture
            run(
                subject, texts, out=out, resume=resume, progress=report.layer if streaming else report, **wish
            )
    except KeyboardInterrupt as error:
        error.add_note(f"What {out} lists is whole; add --resume to go on from there.")
        raise
    found = store.open_capture(out) if parts == "1" else None
    typer.echo(str(out) if found is None else _said(out, found))


def _said(out: Path, found: "Capture") -> str:
    tokens, size = int(found.encoded.mask.sum()), sum(part.bytes for part in found.parts)
    return (
        f"{out}: {len(found.sites)} sites of {found.name} at {tokens:,} tokens of "
        f"{len(found.encoded):,} prompts, {size / 1e6:,.0f} MB"
    )


def _texts(text: list[Path] | None, prompts: str | None) -> "PromptSet":
    from engram_interp.data import prompts as sets
    from engram_interp.data.documents import documents

    if text is not None:
        found = list(documents(text))
        if not found:
            raise InputError(f"There is no text in {', '.join(map(str, text))}; give files with text.")
        return sets.from_texts(found)
    assert prompts is not None
    if prompts in sets.available():
        return sets.load(prompts)
    plain = sets.from_file(prompts)
    return sets.from_file(prompts, markup="brackets") if any("[[" in t for t in plain) else plain


def _windows(model: "SubjectModel", texts: "PromptSet") -> "PromptSet":
    """The texts in pieces that fit the context, cut between tokens; marked entities are kept."""
    from engram_interp.data import prompts as sets

    if model.n_ctx is None:
        return texts
    most = model.n_ctx - (model.separator_id is not None)
    names, pieces, marks = list[str](), list[str](), list[tuple[tuple[int, int], ...]]()
    for name, text, spans in zip(texts.ids, texts.texts, texts.entities, strict=True):
        offsets = model.tokenizer.encode(text, add_special_tokens=False).offsets
        cuts = [0, *(offsets[at][0] for at in range(most, len(offsets), most)), len(text)]
        for start, end in pairwise(cuts):
            if text[start:end].strip():
                names.append(f"{name}@{start}")
                pieces.append(text[start:end])
                marks.append(tuple((a - start, b - start) for a, b in spans if start <= a and b <= end))
    return sets.PromptSet(
        name=f"{texts.name}, windows",
        ids=tuple(names),
        texts=tuple(pieces),
        entities=tuple(marks),
        source=texts.source,
    )


class _Reporter:
    """Says how much is captured after each forward pass, and how fast.

    Args:
        update: Where to say it.
    """

    def __init__(self, update: "Update") -> None:
        self.update = update

    def __call__(self, now: "Progress") -> None:
        text = f"{now.done:,} of {now.tokens:,} tokens, {now.bytes * now.done / now.tokens / 1e6:,.0f} MB"
        self.update(now.done / now.tokens, text)

    def layer(self, now: "Step") -> None:
        """The same after each layer of a streamed capture: what was read, and at which rate."""
        rate = f", {now.rate / 1e6:,.0f} MB/s" if now.rate else ""
        text = f"layer {now.layer} of {now.last_layer}, {now.done / 1e9:,.2f} of {now.of / 1e9:,.2f} GB{rate}"
        self.update(min(1.0, now.done / now.of), text)

"""Write facts into the memory: rows that make an n-gram promote a token, undone bit for bit.

An edit is judged on four things (SCIENCE section 5): does the target rise where the n-gram stands; are
predictions that no edited row can reach bit-equal; what happens to other n-grams that read the same rows;
and do several edits keep what each gains alone. Beside all of it stands a random change of the same rows
with the same norm.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from engram_interp.capture.encode import encode
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.edit_effects import applied, collateral, randomised, reads_of, success
from engram_interp.edit_planning import Edit, plan
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import MIN_GROUPS
from engram_interp.provenance import describe
from engram_interp.results.editing import GROUPS, EditReport

__all__ = ["Edit", "applied", "evaluate", "plan", "write"]


@contextmanager
def write(model: SubjectModel, ngram: str | Sequence[int], target: str | int, **how: Any) -> Iterator[Edit]:
    """Plan one edit and apply it inside the block; afterwards outputs are bit-identical again.

    Args:
        model: A model with a memory.
        ngram: A text whose last tokens form the n-gram, or its canonical ids.
        target: The token to promote: its text or its id.
        how: strength, layers, orders, heads and corrections, as in `plan`.

    Example:
        >>> with editing.write(model, "the capital of France", " Rome") as edit:  # doctest: +SKIP
        ...     rec = record(model, "It is the capital of France")
    """
    edit = plan(model, ngram, target, **how)
    with applied(model, edit):
        yield edit


def evaluate(
    model: SubjectModel,
    edits: Edit | Sequence[Edit],
    texts: Any,
    *,
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 8,
) -> EditReport:
    """Success, locality and collateral of edits applied together, beside a random change of the same rows.

    Success is measured at the end of each edit's own prompt and wherever its n-gram ends in the texts.

    Args:
        model: The model that the edits were planned for.
        edits: What `plan` gave.
        texts: Texts, a `PromptSet`, or token ids, on which locality and collateral are measured.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the random change and the bootstrap.
        batch_size: Prompts per forward pass.

    Raises:
        InputError: If there is no edit, or no text of two tokens.
    """
    listed = [edits] if isinstance(edits, Edit) else list(edits)
    encoded = encode(model, texts)
    if not listed or encoded.tokens.shape[1] < 2:
        raise InputError("evaluate wants at least one edit, and texts of at least two tokens.")
    controls = [randomised(edit, seed=seed + number) for number, edit in enumerate(listed)]
    reads = reads_of(model, encoded, listed)
    variables = _described(listed)
    variables |= success(model, encoded, listed, controls, reads, batch_size=batch_size)
    variables |= collateral(
        model, encoded, listed, controls, reads, batch_size=batch_size, n_boot=n_boot, seed=seed
    )
    few = f"fewer than {MIN_GROUPS} documents have such tokens"
    missing = {name: few for name in variables if name.endswith(("_low", "_high"))}
    missing |= dict.fromkeys(["delta_loss", "kl", "control_delta_loss", "control_kl"], "no such token here")
    missing |= {
        "composed": "one edit has nothing to compose with, or none gains anything alone",
        "shared_kl": "no read shares so many rows",
    }
    few_edits = f"an interval wants at least {MIN_GROUPS} edits to resample, got {len(listed)}"
    missing |= {
        f"{name}{end}": few_edits
        for name in ("gain", "control_gain", "composed")
        for end in ("_low", "_high")
    }
    facts = describe(model, encoded, seed=seed) | {
        "n_boot": n_boot,
        "control": "the same rows changed by as much, each in a random direction",
        "method": "L-BFGS on the logit through gate and norm, the square of the change weighed by 0.005",
    }
    return EditReport.from_arrays(
        coords={"group": list(GROUPS), "shared": np.arange(1, len(variables["shared_reads"]) + 1)},
        variables=variables,
        provenance=facts,
        missing={name: why for name, why in missing.items() if np.isnan(variables[name]).any()},
    )


def _described(edits: Sequence[Edit]) -> dict[str, Any]:
    norms = [np.sqrt(sum(float(made.change.square().sum()) for made in e.changes.values())) for e in edits]
    return {
        "ngram": np.asarray([edit.ngram_text for edit in edits], dtype=object),
        "target": np.asarray([edit.target_text for edit in edits], dtype=object),
        "layers": np.asarray([", ".join(map(str, edit.changes)) for edit in edits], dtype=object),
        "rows": np.asarray([sum(len(made.rows) for made in edit.changes.values()) for edit in edits]),
        "change_norm": np.asarray(norms),
        "wanted": np.asarray([edit.wanted for edit in edits]),
        "closed_form": np.asarray([edit.closed_form for edit in edits]),
        "reached": np.asarray([edit.reached for edit in edits]),
    }

"""Checkpoints of a run as an axis: the same analysis at every one of them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from engram_interp.checkpoints import SubjectModel, load_model
from engram_interp.errors import InputError
from engram_interp.results import Result, Series

__all__ = ["run"]


def run(
    checkpoints: Mapping[int, str | Path | SubjectModel], analysis: Callable[[SubjectModel], Result]
) -> Series:
    """One analysis at every checkpoint of a run, one of them in memory at a time.

    ::

        folders = {step: f"runs/mine/{step}" for step in (0, 1000, 4000)}
        found = series.run(folders, lambda model: lens.convergence(model, texts))
        found.data["kl"]  # dims step, layer

    Args:
        checkpoints: By step, a model's directory (or packaged name), or a model.
        analysis: From a model to a result; give it the same texts and seed every time.

    Returns:
        The results with ``step`` as their first axis, rising; ``.at(step)`` gives one back.

    Raises:
        InputError: If there is no checkpoint, one cannot be opened (names its step), or the results differ
            in kind, layers, prompts or sizes.
    """
    if not checkpoints:
        raise InputError("A series wants at least one checkpoint, got none; give {step: directory}.")
    found = dict[int, Result]()
    for step in sorted(checkpoints):
        place = checkpoints[step]
        try:
            model = place if isinstance(place, SubjectModel) else load_model(place)
        except InputError as cause:
            raise type(cause)(f"The checkpoint of step {step} cannot be opened: {cause}") from cause
        found[step] = analysis(model)
    return Series.of(found)

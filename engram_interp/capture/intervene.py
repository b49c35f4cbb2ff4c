"""Changing what flows through a site, for as long as a `with` block lasts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from engram_interp.capture.sites import resolve
from engram_interp.checkpoints.subject import SubjectModel

Change = Callable[[Tensor], Tensor | None]
"""Takes a site's tensor and returns its replacement, or None to leave it as it is."""


def tensor_of(output: Any) -> Tensor:
    """The tensor a submodule gave: its output, or the first entry of a tuple."""
    first: Tensor = output[0] if isinstance(output, tuple) else output
    return first


def _replacing(change: Change) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        new = change(tensor_of(output))
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return hook


@contextmanager
def intervene(model: SubjectModel, changes: Mapping[str, Change]) -> Iterator[SubjectModel]:
    """Run the block with sites changed; afterwards, also after an error, the model is as before.

    Only hooks are added and removed: no weight is touched, so outputs afterwards are bit-identical.

    Args:
        model: The model.
        changes: Site name → function from the site's tensor to its replacement (None leaves it).

    Raises:
        InputError: If a site is unknown.
    """
    with ExitStack() as stack:
        for site, change in changes.items():
            for name in resolve(model, [site]):
                module = model.module.get_submodule(model.sites[name])
                stack.callback(module.register_forward_hook(_replacing(change)).remove)
        yield model

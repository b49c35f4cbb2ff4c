"""Where a model is trained: the CPU, or one of this machine's NVIDIA GPUs."""

import torch

from engram_interp.errors import InputError


def devices() -> tuple[str, ...]:
    """Devices of this machine that training can run on: "cpu", then its GPUs ("cuda:0") by number."""
    return ("cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count())))


def find_device(name: str) -> torch.device:
    """The device of this name; "cuda" is the first GPU.

    >>> find_device("cpu")
    device(type='cpu')

    Raises:
        InputError: If this machine has no such device, or training cannot run on its kind.
    """
    found, wanted = devices(), "cuda:0" if name == "cuda" else name
    if wanted in found:
        return torch.device(wanted)
    none = f"; torch {torch.__version__} sees no GPU here" if len(found) == 1 else ""
    raise InputError(
        f"Training wants a device of this machine, which has {', '.join(found)}, got {name!r}{none}; give "
        "one of those as --device."
    )


def describe_device(device: torch.device) -> str:
    """A device in words, for provenance: "cpu", or a GPU's number and model."""
    if device.type != "cuda":
        return device.type
    return f"{device} ({torch.cuda.get_device_name(device)})"

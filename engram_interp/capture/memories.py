"""The memory of one layer: the module that the sites lie in, and its table."""

from torch import Tensor, nn

from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.memory.module import Engram

_SITES = ("hook_memory", "hook_gate")


def memory_of(model: SubjectModel, layer: int) -> nn.Module:
    """The memory module of a layer, of whatever kind: what holds the site of its rows, or of its gate.

    Raises:
        InputError: If the layer has none.
    """
    paths = [model.sites[site] for name in _SITES if (site := f"blocks.{layer}.engram.{name}") in model.sites]
    if layer not in model.memory_layers or not paths:
        raise InputError(
            f"Layer {layer} of {model.name} has no memory; layers that have one: "
            f"{list(model.memory_layers) or 'none'}."
        )
    return model.module.get_submodule(paths[0].rpartition(".")[0])


def engram_of(model: SubjectModel, layer: int) -> Engram:
    """The memory of a layer whose gate, convolution and rows are known.

    Raises:
        InputError: If the layer has none, or it is of another kind than `memory.module.Engram`.
    """
    module = memory_of(model, layer)
    if not isinstance(module, Engram):
        raise InputError(
            f"The memory of {model.name} at layer {layer} is a {type(module).__name__}, whose gate, "
            "convolution and rows are not known; build it from engram_interp.memory.module.Engram (see "
            "checkpoints.demo and checkpoints.qwen4_exp for two conversions)."
        )
    return module


def table_of(model: SubjectModel, layer: int) -> Tensor | None:
    """The layer's table `[row, d_row]` on the CPU, padding rows that no n-gram reaches cut off.

    It is looked for where the rows are read and beside the gate; None where it is not found.
    """
    if layer in model.memory_layers and not model.sites:
        return None  # only its addresses are known
    places = [memory_of(model, layer)]
    site = model.sites.get(f"blocks.{layer}.engram.hook_memory")
    if site is not None:
        places += [
            model.module.get_submodule(site),
            model.module.get_submodule(site.rpartition(".")[0]),
        ]
    for place in places:
        found = place if isinstance(place, nn.Embedding) else getattr(place, "table", None)
        if isinstance(found, nn.Embedding):
            rows = len(found.weight)
            if model.layout is not None:
                rows = int(model.layout.rows[model.layout.layer_ids.index(layer)])
            return found.weight.detach()[:rows].cpu()
    return None

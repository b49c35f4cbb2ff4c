"""What one layer's attention hands to later layers: compressed entries, index keys, and a choice of them."""

from dataclasses import dataclass, fields

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Of one prompt; None until a layer has made it. A later source replaces what an earlier one made.

    Attributes:
        entries: Compressed keys (which are the values too), rotated and rounded.
        keys: Index keys of the entries.
        selected: Which entries each token attends to.
        candidates: Which entries later choices may be among.
    """

    entries: Float[Tensor, "_entry d_head"] | None = None
    keys: Float[Tensor, "entry d_index"] | None = None
    selected: Bool[Tensor, "token entry"] | None = None
    candidates: Bool[Tensor, "token entry"] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """What there is, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

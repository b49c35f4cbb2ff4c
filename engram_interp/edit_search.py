"""A short change of rows that raises a token's logit through everything that rows move.

Rows make the value that is written, and the key as well: a change that only pushes the value towards the
target turns the key away from what the gate asks for, and shuts the gate that should carry it. So the
search follows the exact slope of the logit through gate, final norm and later layers, and finds changes
that open the gate or leave it alone; a weight on their length keeps them short.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engram_interp.capture.encode import Encoded
from engram_interp.capture.intervene import Change, intervene
from engram_interp.capture.record import evaluating
from engram_interp.capture.rows import RowChange, rows_written
from engram_interp.checkpoints.subject import SubjectModel

__all__ = ["HELD_STILL", "Rise", "search"]

HELD_STILL = (
    ".hook_gate",
    ".hook_attn_out",
    ".hook_mlp_out",
    "ln_final.hook_scale",
    ".hook_pre",
    ".hook_post",
    ".hook_comb",
)
"""Endings of the sites that the direct path takes as given."""
_SHORT = 0.005
"""Weight of the change's squared length beside the square of the logits that lack; at the lengths and slopes
of trained rows it leaves a few hundredths of a logit lacking."""
_REMEMBERED = 10
_CLOSE = 0.05
"""A rise is what was asked if it is off by no more than this share."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rise:
    """The target's logit less the mean logit at the end of a prompt, as rows read there change.

    Attributes:
        model: The model.
        encoded: The prompt.
        target: Token id.
        columns: Columns that are written.
        reads: By memory layer, what the prompt reads `[token, column]`.
    """

    model: SubjectModel
    encoded: Encoded
    target: int
    columns: Sequence[int]
    reads: Mapping[int, Int64[Tensor, "token column"]]

    def changes(self, change: Float[Tensor, "layer column d_row"]) -> dict[int, RowChange]:
        """By memory layer, the rows that the last token reads and what is added to them."""
        return {
            layer: RowChange(rows=read[-1, list(self.columns)], change=part)
            for (layer, read), part in zip(self.reads.items(), change, strict=True)
        }

    def at(
        self, change: Float[Tensor, "layer column d_row"], *, still: Sequence[str] = ()
    ) -> tuple[float, Float[Tensor, "layer column d_row"]]:
        """Its value and slope with rows changed so.

        Args:
            change: Added to the rows that the last token reads.
            still: Endings of sites that the slope takes as given; none for the exact slope.
        """
        leaves: dict[int, Tensor] = {}

        def leaf(layer: int) -> Change:
            def replace(x: Tensor) -> Tensor:
                leaves[layer] = x.detach().clone().requires_grad_()
                return leaves[layer]

            return replace

        given: dict[str, Any] = {
            site: Tensor.detach for site in self.model.sites if still and site.endswith(tuple(still))
        }
        read = {f"blocks.{layer}.engram.hook_memory": leaf(layer) for layer in self.reads}
        with (
            rows_written(self.model, self.changes(change)),
            evaluating(self.model.module),
            torch.enable_grad(),
            intervene(self.model, given | read),
        ):
            logits = self.model.logits(self.encoded.tokens, self.encoded.mask)[0, -1].float()
            above = logits[self.target] - logits.mean()
            slopes = torch.autograd.grad(above, [leaves[layer] for layer in self.reads])
        return float(above.detach()), torch.stack(
            [self._of_rows(layer, slope[0]) for layer, slope in zip(self.reads, slopes, strict=True)]
        )

    def _of_rows(self, layer: int, slope: Tensor) -> Tensor:
        """The slope by a row is summed over every token of the prompt that reads it."""
        read = self.reads[layer]
        same = (read == read[-1])[:, list(self.columns), None]
        return (slope.float().cpu()[:, list(self.columns)] * same).sum(0)


def search(
    rise: Rise, start: Float[Tensor, "layer column d_row"], *, base: float, strength: float, passes: int
) -> tuple[Float[Tensor, "layer column d_row"], float]:
    """A short change that raises the logit by what was asked, and how far it raises it.

    Minimised is (strength - rise)² + 0.005 · |change|² by L-BFGS with the strong Wolfe conditions, first
    from no change, and where that does not come within 5 % once more from `start`. Everything is
    deterministic.

    Args:
        rise: What is to be raised.
        start: The other beginning: the closed form.
        base: Its value without a change.
        strength: Wanted rise, logit units.
        passes: Times that the model may be run forward and back from each beginning.
    """
    best, reached = torch.zeros_like(start), 0.0
    for beginning in (torch.zeros_like(start), start):
        found = beginning.clone()
        optimiser = torch.optim.LBFGS(
            [found.requires_grad_()],
            max_iter=passes,
            max_eval=passes,
            history_size=_REMEMBERED,
            line_search_fn="strong_wolfe",
        )

        def cost(found: Tensor = found) -> Tensor:
            value, slope = rise.at(found.detach())
            lacking = strength - (value - base)
            found.grad = 2 * (_SHORT * found.detach() - lacking * slope)
            return lacking**2 + _SHORT * found.detach().square().sum()

        optimiser.step(cost)
        got = rise.at(found.detach())[0] - base
        if abs(strength - got) < abs(strength - reached):
            best, reached = found.detach(), got
        if abs(strength - reached) <= _CLOSE * strength:
            break
    return best, reached

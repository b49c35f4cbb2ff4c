"""CKA of 12 × 12 layers, d = 512, n = 4,096: beside pytorch-cka, and beside a GEMM of the same FLOPs.

    python -m benchmarks.cka

Every ratio is the median of interleaved pairs in this process. pytorch-cka (PyPI, 1.1.3) is measured
without its hooks, data loader and models, on activations that are there already, through what its own
loop runs for each batch: one Gram per layer by `torch.mm`, then its `hsic.hsic`, summed over batches. That
is its fastest path to these numbers: its public `CKA(...)` adds forward passes to it. All samples at once
go through its `cka_from_features`. Without the package, or what it imports, those lines are left out.

The GEMM is [2·L·n, d] × [d, b] in float32: 4·n·b·L·d operations, what minibatch CKA needs for its Grams if
their symmetry is not used. The traces of all pairs (2·L²·n·b more) are not counted.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import paired, peak_memory
from engram_interp.metrics import cka

LAYERS, WIDTH, SAMPLES, BATCH = 12, 512, 4096, 256
FEW_SAMPLES, MANY_SAMPLES = 4096, 65536

STREAM = f"""
import torch
from engram_interp.metrics import cka

def prepare(n, estimator):
    torch.set_num_threads(1)
    return int(n), estimator

def run(inputs):
    n, estimator = inputs
    total = cka.Accumulator(3, 3, estimator=estimator)
    for start in range(0, n, {BATCH}):
        layers = [torch.randn({BATCH}, {WIDTH}) for _ in range(6)]
        total.update(layers[:3], layers[3:])
    total.matrix()
"""


def activations(offset: float = 0.0, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Two residual streams over the same samples that share half of what they add."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(SAMPLES, WIDTH, generator=generator)
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for side in sides:
        state = shared.clone()
        for _ in range(LAYERS):
            state = state + 0.5 * torch.randn(SAMPLES, WIDTH, generator=generator)
            side.append(state + offset)
    return sides


def peer() -> Any | None:
    """The installed pytorch-cka; None, and a line that says why, without one."""
    try:
        import cka as module  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError as error:
        missing = "it is not installed" if error.name == "cka" else f"it needs {error.name}, which is missing"
        print(f"no ratios to pytorch-cka: {missing}")
        return None
    if hasattr(module, "cka_from_features"):
        return module
    print(f"no ratios to pytorch-cka: {module.__file__} is another package")
    return None


def peer_minibatch(module: Any, xs: list[Tensor], ys: list[Tensor]) -> Tensor:
    """What its `CKA.compare` loop does after the forward passes."""
    from cka.hsic import hsic  # type: ignore[import-not-found, unused-ignore]

    sums = [torch.zeros(LAYERS, LAYERS), torch.zeros(LAYERS), torch.zeros(LAYERS)]
    with torch.inference_mode():
        for start in range(0, SAMPLES, BATCH):
            grams = [
                torch.stack(
                    [torch.mm(layer[start : start + BATCH], layer[start : start + BATCH].T) for layer in side]
                )
                for side in (xs, ys)
            ]
            for total, part in zip(sums, hsic(grams[0], grams[1]), strict=True):
                total.add_(part)
        found: Tensor = module.CKA._compute_cka_matrix(None, *sums)
    return found


def gemm() -> Callable[[], object]:
    """A float32 product of 4·n·b·L·d operations into memory that is there already."""
    left, right = torch.randn(2 * LAYERS * SAMPLES, WIDTH), torch.randn(WIDTH, BATCH)
    out = torch.empty(len(left), BATCH)
    return lambda: torch.mm(left, right, out=out)


def error(found: Any, wanted: np.ndarray) -> float:
    """Largest |error| / max(|wanted|, .1); NaN where a value is."""
    return float(np.max(np.abs(np.asarray(found) - wanted) / np.maximum(np.abs(wanted), 0.1)))


def main() -> None:
    """Print every ratio."""
    xs, ys = activations()
    shape = f"{LAYERS} × {LAYERS} layers, d = {WIDTH}, n = {SAMPLES:,}, {torch.get_num_threads()} threads"
    print(f"CKA, {shape}; seconds of the first / of the second, median of pairs (range)")
    bound = paired(lambda: cka.matrix(xs, ys, batch_size=BATCH), gemm(), repeats=9)
    print(f"minibatch {BATCH} / GEMM of the same FLOPs   {bound}")
    module = peer()
    if module is not None:
        against = paired(
            lambda: cka.matrix(xs, ys, batch_size=BATCH), lambda: peer_minibatch(module, xs, ys), repeats=9
        )
        print(f"minibatch {BATCH} / pytorch-cka              {against}")
        whole = paired(lambda: cka.matrix(xs, ys, "unbiased"), lambda: module.cka_from_features(xs, ys))
        print(f"all samples / pytorch-cka full batch    {whole}")
    _accuracy(module)
    for estimator in ("minibatch", "unbiased"):
        few, many = (peak_memory(STREAM, n, estimator) / 2**20 for n in (FEW_SAMPLES, MANY_SAMPLES))
        print(
            f"streamed, {estimator}: {few:.0f} MB at n = {FEW_SAMPLES:,}, {many:.0f} MB at {MANY_SAMPLES:,}"
        )


def _accuracy(module: Any | None) -> None:
    xs, ys = activations(offset=100.0)
    double = [[layer.double() for layer in side] for side in (xs, ys)]
    estimators: tuple[cka.Estimator, ...] = ("minibatch", "unbiased")
    for estimator in estimators:
        wanted = cka.matrix(double[0], double[1], estimator, batch_size=BATCH)
        ours = error(cka.matrix(xs, ys, estimator, batch_size=BATCH), wanted)
        said = f"offset of 100 in every feature, {estimator}: error {ours:.1e}"
        if module is not None:
            theirs = (
                peer_minibatch(module, xs, ys)
                if estimator == "minibatch"
                else module.cka_from_features(xs, ys)
            )
            said += f", pytorch-cka {error(theirs, wanted):.1e} ({int(theirs.isnan().sum())} values NaN)"
        print(said)


if __name__ == "__main__":
    main()

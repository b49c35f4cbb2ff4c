"""Write the planted model that ships (engram_interp/assets/models/planted) anew from its code.

python scripts/package_planted.py
"""

import argparse
from pathlib import Path

from engram_interp import planted, planted_weights
from engram_interp.checkpoints.files import file_digest
from engram_interp.checkpoints.native import save_native
from engram_interp.memory import counts as ngram_counts
from engram_interp.model.transformer import HookedEngramTransformer


def main() -> None:
    """Save what `planted.build` gives and print the digest of its weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("engram_interp/assets/models/planted"))
    args = parser.parse_args()
    model = planted.build()
    assert isinstance(model.module, HookedEngramTransformer)
    hits = list(planted.training_hits().values())
    folder = save_native(args.out, model.module, tokenizer=model.tokenizer, hits=hits)
    ngram_counts.write(folder / ngram_counts.FILE, **planted_weights.training_counts())
    print(f"{folder}: weights {file_digest(folder / 'model.safetensors')}")


if __name__ == "__main__":
    main()

"""Write the planted model's ready-made bundle (engram_interp/assets/bundles/planted.engram) anew.

python scripts/package_planted_bundle.py

Its prompts are every planted fact, the facts contradicted by their topic, the n-grams that collide with one,
and as many lines of the same words that hold none: the explorer's guided tour walks through them.
"""

import argparse
from pathlib import Path

import numpy as np

from engram_interp import ablation, attribution, gates, lens, planted, slots
from engram_interp.checkpoints import SubjectModel, load_model
from engram_interp.data.prompts import PromptSet
from engram_interp.planted_weights import WORDS
from engram_interp.results import Result, write_bundle

SEED = 0
PLAIN = 12


def prompts() -> tuple[PromptSet, dict[str, int]]:
    """The prompts by name, and the token at which each one's n-gram ends (the separator is at 0)."""
    lines = {f"fact-{fact.target.strip()}": f"{fact.prompt}{fact.target}" for fact in planted.facts()}
    for fact in planted.facts():
        if fact.conflict is not None:
            lines[f"contradicted-{fact.target.strip()}"] = f"{fact.conflict}{fact.target}"
    for collision in planted.collisions():
        name = f"collision-{collision.ngram[-1]}"
        lines[name] = f"{collision.prompt}{collision.fact.target}"
    draw = np.random.default_rng(SEED)
    for number in range(PLAIN):
        lines[f"plain-{number + 1}"] = " ".join(draw.choice(sorted(WORDS), size=6))
    ends = {name: len(text.split()) - 1 for name, text in lines.items() if not name.startswith("plain")}
    texts = tuple(lines.values())
    return PromptSet(
        name="planted",
        ids=tuple(lines),
        texts=texts,
        entities=((),) * len(texts),
        source="the planted facts, what contradicts and what collides with them, and lines without any",
    ), ends


def parts(model: SubjectModel, texts: PromptSet, ends: dict[str, int], index: Path) -> dict[str, Result]:
    """Every result that the explorer shows of one model."""
    made = slots.index(model, texts.texts, out=index)
    found: dict[str, Result] = {
        "lens-engram": lens.convergence(model, texts, seed=SEED),
        "gates": gates.read(model, texts),
        "gate-statistics": gates.statistics(model, texts, seed=SEED),
        "ablation": ablation.effect(model, texts, seed=SEED),
        "slot-load": slots.load(model, made),
        "slot-census": slots.census(model, made),
    }
    for name, text in zip(texts.ids, texts.texts, strict=True):
        if name not in SHOWN:
            continue
        found[f"slots:{name}"] = slots.lookup(model, text)
        found[f"lens-table:{name}"] = lens.table(model, text)
        found[f"attribution:{name}"] = attribution.memory(model, text, token=ends[name], seed=SEED)
        found[f"promotion:{name}"] = attribution.promoted(model, text, token=ends[name], seed=SEED)
    return found


SHOWN = ("fact-amri", "fact-dapi", "contradicted-dapi", "collision-vel")


def main() -> None:
    """Run everything and write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("engram_interp/assets/bundles/planted.engram"))
    parser.add_argument("--index", type=Path, required=True, help="a folder for the index of the prompts")
    args = parser.parse_args()
    model = load_model("planted")
    texts, ends = prompts()
    examples = [{"id": n, "index": texts.ids.index(n), "token": ends[n]} for n in texts.ids if n in ends]
    facts = {"name": "planted", "n_layers": model.n_layers, "memory_layers": list(model.memory_layers)}
    meta = {
        "name": "planted",
        "models": {"engram": facts},
        "prompts": {"documents": len(texts), "source": texts.source},
        "seed": SEED,
        "examples": examples,
        "notes": [
            "The weights of this model were written by hand: every instrument has a right answer here. Its "
            "training counts are what reading every fact’s prompt as often as planned would have counted."
        ],
    }
    out = write_bundle(args.out, parts(model, texts, ends, args.index), meta=meta, overwrite=True)
    print(f"{out}: {sum(file.stat().st_size for file in out.rglob('*') if file.is_file()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

"""A training recipe: one small TOML file per model."""

import re
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from engram_interp.errors import InputError
from engram_interp.memory.compression import identity_map
from engram_interp.memory.config import EngramConfig
from engram_interp.model.config import ModelConfig
from engram_interp.model.training.cost import Cost, cost
from engram_interp.model.training.values import check_values
from engram_interp.model.transformer import HookedEngramTransformer

PRECISIONS = ("float32", "bfloat16")
"""What a schedule can compute in."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to learn.

    Attributes:
        tokens: Training tokens, rounded down to whole steps.
        batch: Windows per step.
        learning_rate: Peak rate of AdamW on everything but the tables.
        table_rate: The tables' rate as a multiple of it.
        beta1: First-moment decay.
        beta2: Second-moment decay.
        weight_decay: On every parameter of two axes but embeddings and tables: matrices, and the memory's
            norm gains `[stream d_model]`.
        clip: Largest gradient norm, counted without the tables.
        warmup: Steps of linear warm-up.
        final_rate: Share of the peak that the cosine ends at.
        seed: Order of the training windows.
        evaluate_every: Steps between evaluations on held-out text.
        precision: Of the matrix products and attention while training, "float32" or "bfloat16"; weights,
            moments and evaluations are float32 either way.
    """

    tokens: int
    batch: int = 16
    learning_rate: float = 2e-3
    table_rate: float = 5.0
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0
    warmup: int = 50
    final_rate: float = 0.1
    seed: int = 0
    evaluate_every: int = 200
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_values(Schedule, vars(self), section="schedule")
        if self.precision not in PRECISIONS:
            raise InputError(
                f"A schedule wants a precision of {' or '.join(PRECISIONS)}, got {self.precision!r}."
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training run, but for the text.

    Attributes:
        name: The run's name, which names folders: letters, digits and ``._-``, a letter or digit first.
        d_vocab: Vocabulary of the tokenizer trained on the text.
        model: Keyword arguments of `ModelConfig` without d_vocab and engram.
        engram: Keyword arguments of `EngramConfig`, or None for a baseline.
        schedule: Optimisation.
        fiction: Seed of the invented facts (`data.fiction`) that open the training text; None for none.
    """

    name: str
    d_vocab: int
    model: dict[str, Any]
    engram: dict[str, Any] | None
    schedule: Schedule
    fiction: int | None = None

    def __post_init__(self) -> None:
        check_values(Recipe, vars(self))
        check_values(ModelConfig, self.model, section="model")
        check_values(EngramConfig, self.engram or {}, section="engram")
        if not _NAME.fullmatch(self.name):
            raise InputError(
                "name wants letters, digits, dots, hyphens and underscores, a letter or digit first, got "
                f"{self.name!r}; a run's folder is called so."
            )

    def seeded(self, seed: int) -> "Recipe":
        """The same run from other initial weights, on the same batches in the same order."""
        return replace(self, name=f"{self.name}-seed{seed}", model=self.model | {"init_seed": seed})

    def model_config(self) -> ModelConfig:
        """The model this recipe trains."""
        values = {**self.model, "d_vocab": self.d_vocab}
        if self.engram is not None:
            values["engram"] = self.engram
        return ModelConfig.from_dict(values)

    def cost(self) -> Cost:
        """What the recipe's model has and what a token takes."""
        cfg = self.model_config()
        return cost(HookedEngramTransformer(cfg, token_map=identity_map(cfg.d_vocab)[0]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for provenance."""
        return asdict(self)

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a recipe file.

        Raises:
            InputError: If the file is missing, is not TOML, has unknown or missing entries, or a value that
                its field cannot take; the message names file and field.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"No recipe at {path}; give a .toml file or the name of a packaged recipe.")
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
            raise InputError(f"{path} is not a TOML recipe: {cause}.") from cause
        expected = {"d_vocab", "model", "schedule"}
        for section in ("model", "engram", "schedule"):
            if not isinstance(values.get(section, {}), dict):
                raise InputError(f"{path}: {section} wants a table, [{section}], got {values[section]!r}.")
        unknown = sorted(set(values) - expected - {"name", "engram", "fiction"})
        missing = sorted(expected - set(values))
        known = {f.name for f in fields(Schedule)}
        unknown += [f"schedule.{k}" for k in values.get("schedule", {}) if k not in known]
        if unknown or missing or "tokens" not in values.get("schedule", {}):
            raise InputError(
                f"{path} wants d_vocab, [model], [schedule] with tokens, and for a memory [engram]; it lacks "
                f"{missing} and has unknown {unknown}."
            )
        try:
            recipe = cls(
                name=values.get("name", path.stem),
                d_vocab=values["d_vocab"],
                model=values["model"],
                engram=values.get("engram"),
                schedule=Schedule(**values["schedule"]),
                fiction=values.get("fiction"),
            )
            recipe.model_config()
        except InputError as cause:
            raise InputError(f"{path}: {cause}") from cause
        return recipe

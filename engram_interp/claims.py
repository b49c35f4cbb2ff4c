"""What is claimed of conditional memory, and what our measurements say of it.

A script in ``analyses`` measures one claim and hands its `Measure`s to `verdict`; the word follows from the
numbers by a rule that the verdict's file keeps, so that nobody picks it by hand:

    from engram_interp import claims
    found = claims.verdict(
        4,
        [claims.Measure(label="gate held at its mean", value=0.011, low=0.008, high=0.014, unit="nats",
                        null=0.0, compared_with="no difference", expects="within", margin=0.02)],
        scope="on the bundled pair",
        models=[pair.engram],
    )
    found.save("claim-04.nc")

`found` brings saved verdicts together, `bundled` those of runs on the bundled pair, and `scoreboard` sets
both beside the claims that have none.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from engram_interp.claim_list import CLAIMS, Claim, claim
from engram_interp.claim_measures import Measure
from engram_interp.errors import InputError
from engram_interp.results import archives
from engram_interp.results.base import Result
from engram_interp.results.provenance import Value
from engram_interp.results.verdict import RULES, WORDS, Rule, Verdict, Word, decide
from engram_interp.views.theme import PLOTLY_CONFIG

__all__ = [
    "CLAIMS",
    "WORDS",
    "Claim",
    "Measure",
    "Row",
    "Verdict",
    "bundled",
    "claim",
    "file_name",
    "found",
    "keep",
    "scoreboard",
    "sentence",
    "telling",
    "verdict",
]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the scoreboard.

    Attributes:
        claim: The claim.
        word: Its verdict.
        sentence: What the verdict rests on.
        verdict: The whole of it; None where there is none.
        bundled: What the same script says when run on the bundled pair; None where that was not asked for.
    """

    claim: Claim
    word: str
    sentence: str
    verdict: Verdict | None
    bundled: Verdict | None = None


class Named(Protocol):
    """What a model is called, and the digest of its weights."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...


def verdict(
    claimed: int,
    measures: Sequence[Measure],
    *,
    scope: str,
    models: Iterable[Named] = (),
    rule: Rule = "views",
    remark: str = "",
    provenance: Mapping[str, Value] | None = None,
) -> Verdict:
    """The verdict that follows from the measures, by one of `results.verdict.RULES`.

    It is *not tested* where no measure decides, and never better than *not resolved at this scale* where a
    control does not hold or a deciding measure has no interval.

    Args:
        claimed: The claim's number.
        measures: What was measured; every label once. Those that decide and the controls are in the sentence.
        scope: On what, to go on a sentence: "on the bundled pair, one training run of each".
        models: The models measured; their names and digests are kept.
        rule: "views" of one thing, or "parts" of a claim that all must hold.
        remark: What else the sentence should say, such as which arm was missing.
        provenance: Further facts for ``data.attrs``: prompts, documents, seeds.

    Raises:
        InputError: If there is no such claim, or two measures share a label.
    """
    one = claim(claimed)
    labels = [measure.label for measure in measures]
    if len(set(labels)) < len(labels):
        raise InputError(f"Every measure of a verdict wants a label of its own, got {labels}.")
    said = [measure.says() for measure in measures]
    word = decide([measure.role for measure in measures], said, rule=rule)
    named = [f"{model.name} ({model.digest or 'digest unknown'})" for model in models]
    same = ("null", "null_low", "null_high", "margin", "unit", "compared_with", "role", "expects")
    columns = {"value": "value", "value_low": "low", "value_high": "high"} | {name: name for name in same}
    plain = [asdict(measure) for measure in measures]
    return Verdict.from_arrays(
        coords={"measure": labels},
        variables={name: [row[key] for row in plain] for name, key in columns.items()} | {"says": said},
        provenance={
            "claim": one.number,
            "title": one.title,
            "statement": one.statement,
            "source": one.source,
            "script": one.script,
            "verdict": word,
            "scope": scope,
            "sentence": sentence(one, word, measures, scope=scope, remark=remark),
            "remark": remark,
            "rule": rule,
            "rule_in_words": RULES[rule],
            "would_change": one.would_change,
            "models": "; ".join(dict.fromkeys(named)) or "none",
            **(provenance or {}),
        },
    )


def sentence(one: Claim, word: Word, measures: Sequence[Measure], *, scope: str, remark: str = "") -> str:
    """The verdict in one sentence: the claim, on what, the word, and the numbers it rests on."""
    told = [m.said() for m in measures if m.role == "decides"]
    told += [f"control: {m.said()}" for m in measures if m.role == "control"]
    told += [remark] if remark else []
    because = f": {'; '.join(told)}" if told else ""
    return f"Claim {one.number}, {one.title}, {scope}: {word}{because}."


_WAYS = {"supports": "for", "contradicts": "against", "open": "open"}


def telling(made: Verdict, *, most: int = 3) -> list[str]:
    """The measures that made the verdict what it is, in words, the most telling first.

    Of a claim that was not resolved these are those that kept it from being so, controls first; of one that
    was contradicted, those that contradict it. Each says whether it speaks for the claim. The last lines
    count the rest, and say what else the verdict noted.
    """
    rows = [row for row in made.rows() if row["role"] != "beside"]
    first = {"supported": ("supports",), "contradicted": ("contradicts",)}.get(
        made.word, ("open", "contradicts")
    )
    resolved = made.word in {"supported", "contradicted"}
    rows.sort(key=lambda row: (row["says"] not in first, not resolved and row["role"] != "control"))
    names = {"value_low": "low", "value_high": "high", "measure": "label"}
    told = [
        f"{_WAYS[row['says']]}{' (control)' * (row['role'] == 'control')}: "
        + Measure(**{names.get(k, k): v for k, v in row.items() if k != "says"}).said()
        for row in rows[:most]
    ]
    left = Counter(_WAYS[row["says"]] for row in rows[most:])
    rest = ", ".join(f"{count} {way}" for way, count in left.items())
    remark = str(made.data.attrs.get("remark", ""))
    return [*told, *([f"{left.total()} more: {rest}"] if left else []), *([remark] if remark else [])]


def file_name(claimed: int) -> str:
    """The name of a claim's verdict file: ``"claim-04.nc"``."""
    return f"claim-{claim(claimed).number:02}.nc"


def keep(
    made: Verdict, folder: str | Path, results: Mapping[str, Result], *, overwrite: bool = True
) -> list[Path]:
    """Write a verdict, its figure and the results it rests on into a folder, and return the files.

    Args:
        made: The verdict, as ``claim-NN.nc`` and ``claim-NN.html``.
        folder: Made if it is not there.
        results: By the names of their files, without ``.nc``.
        overwrite: Whether files of these names give way.

    Raises:
        InputError: If a file of such a name is there and `overwrite` is off, or is not of this tool.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    named = {file_name(made.number): made} | {f"{name}.nc": each for name, each in results.items()}
    written = [each.save(folder / name, overwrite=overwrite) for name, each in named.items()]
    figure = (folder / file_name(made.number)).with_suffix(".html")
    made.plot().write_html(figure, include_plotlyjs=True, config=PLOTLY_CONFIG)
    return [*written, figure]


def found(places: Sequence[str | Path] = ()) -> dict[int, Verdict]:
    """Saved verdicts by number: ``claim-NN.nc`` in each folder or one folder deeper, or the packaged ones.

    Where a claim has several the one made last counts.

    Args:
        places: Folders, or verdict files; empty for those that come with the package.

    Raises:
        InputError: If a place is not there or holds none, or a file is no verdict.
        DamagedFileError: If a file is cut short, or its word does not follow from its numbers.
    """
    if not places:
        return dict(_packaged("verdicts"))
    every: dict[int, Verdict] = {}
    for path in _paths(places):
        made = Verdict.load(path)
        before = every.get(made.number)
        if before is None or str(made.data.attrs["created"]) >= str(before.data.attrs["created"]):
            every[made.number] = made
    return dict(sorted(every.items()))


def bundled() -> dict[int, Verdict]:
    """Verdicts by number that the scripts reach on the bundled pair, as they do on a fresh clone.

    They come with the package. One run of each model has no second seed and no control arm beside it; where a
    claim compares arms (4, 7, 10, 11) the scripts read the packaged losses of these.

    Raises:
        DamagedFileError: If the package is not whole.
    """
    return dict(_packaged("wiki-nano"))


def scoreboard(verdicts: Mapping[int, Verdict], pair: Mapping[int, Verdict] | None = None) -> list[Row]:
    """Every claim with its verdict, and that of the bundled pair (`bundled`) where it is given.

    A claim without a verdict counts as not tested.
    """
    rows = []
    for one in CLAIMS:
        made = verdicts.get(one.number)
        nothing = f"Claim {one.number}, {one.title}: not tested."
        word, said = ("not tested", nothing) if made is None else (made.word, made.summary())
        beside = (pair or {}).get(one.number)
        rows.append(Row(claim=one, word=word, sentence=said, verdict=made, bundled=beside))
    return rows


@cache
def _packaged(name: str) -> dict[int, Verdict]:
    """The verdicts in an archive of the package: as a file each they take some fourteen times the room."""
    return unpacked(Path(str(files("engram_interp") / "assets" / "claims" / f"{name}.tar.xz")))


def unpacked(archive: Path) -> dict[int, Verdict]:
    """The verdicts in an archive of claim-NN.nc.

    Raises:
        DamagedFileError: If it is not there or cut short.
    """
    with archives.unpacked(archive, of="verdicts") as folder:
        return found([folder])


def _paths(places: Sequence[str | Path]) -> list[Path]:
    paths: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            raise InputError(f"There is no {place}; give folders that hold claim-NN.nc, or such files.")
        inside = (
            [place]
            if place.is_file()
            else [p for g in ("claim-*.nc", "*/claim-*.nc") for p in sorted(place.glob(g))]
        )
        if not inside:
            raise InputError(
                f"{place} holds no claim-NN.nc, nor do its folders; run a script of analyses/ first."
            )
        paths += inside
    return paths

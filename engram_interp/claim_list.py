"""The claims about conditional memory that this package puts to the test, and what would settle each."""

from dataclasses import dataclass

from engram_interp.errors import InputError

PAPER = "arXiv 2601.07372"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim.

    Attributes:
        number: Its number.
        title: A few words.
        statement: The statement that is tested.
        source: Who makes it; § is a section of the Engram paper.
        measured: What is measured, by which estimator, beside which null.
        supported: What would make the verdict *supported*.
        contradicted: What would make it *contradicted*.
        controls: What must hold before either is said; empty where nothing more must.
        script: File name in ``analyses``; empty where there is none yet.
    """

    number: int
    title: str
    statement: str
    source: str
    measured: str
    supported: str
    contradicted: str
    controls: str = ""
    script: str = ""

    def __post_init__(self) -> None:
        needed = (self.title, self.statement, self.source, self.measured, self.supported, self.contradicted)
        if not all(needed):
            raise InputError(f"Claim {self.number} wants every field but controls and script filled in.")

    @property
    def would_change(self) -> str:
        """What would change the verdict, in either direction."""
        needs = f" Wants also that {self.controls}." if self.controls else ""
        return f"Supported if {self.supported}; contradicted if {self.contradicted}.{needs}"


CLAIMS: tuple[Claim, ...] = (
    Claim(
        number=1,
        title="deeper layers",
        statement="layers that read memory are further on than the baseline's: in what they hold, in how "
        "ready their prediction is, and in the work they do",
        source=f"{PAPER} §6.1",
        measured="mean shift in baseline layers after the first read, by CKA's monotone path, by the lens "
        "and by stitching, beside a second baseline seed, the residuals before the first read and, for the "
        "added memory, shuffled ids; also at kept weights around equal loss",
        supported="all three views lie above every null (95 % intervals over documents), at equal loss too",
        contradicted="some view lies below every null and none lies above",
        controls="a second seed of each baseline was trained, and weights were kept near equal loss",
        script="claim_01_depth.py",
    ),
    Claim(
        number=2,
        title="facts in the table, reading not",
        statement="without its memory a model loses facts and keeps reading",
        source=f"{PAPER} §6.3",
        measured="retained performance, (ablated − chance) / (intact − chance), on facts, reading and "
        "invented facts by training count, beside random writes of the same size and the baseline",
        supported="after either ablation what is retained of facts lies below what is retained of reading, "
        "and of invented facts that an n-gram can hold below what is retained of those that none can",
        contradicted="some of these lies above the other instead, and none below",
        controls="what is retained of facts lies below its random control",
        script="claim_02_facts.py",
    ),
    Claim(
        number=3,
        title="gates open at completed entities",
        statement="gates open more where a named entity is complete than elsewhere, by training and not by "
        "build",
        source=f"{PAPER} §6.5",
        measured="AUC of the gate for entity ends, by layer and stream, beside 20 untrained initialisations",
        supported="in every run the AUC of every memory layer lies above those of its untrained "
        "initialisations",
        contradicted="that of some layer lies below its untrained initialisations and none lies above",
        script="claim_03_gates_at_entities.py",
    ),
    Claim(
        number=4,
        title="gates do not matter at small scale",
        statement="at this scale gating changes the loss by less than 0.02 nats a token",
        source="nanochat and other small models with n-gram tables",
        measured="loss with every gate held at its mean, and of an arm trained with its gate fixed at 1, "
        "against the gated model on the same tokens, within what another seed may do",
        supported="both differences lie within 0.02 nats of 0, the trained arm's with all that another seed "
        "may do",
        contradicted="one of them lies farther than 0.02 nats from 0, beyond that",
        controls="switching the memory off costs more than 0.02 nats",
        script="claim_04_gates_matter.py",
    ),
    Claim(
        number=5,
        title="the gate prefers often-hit rows",
        statement="the gate opens more for rows that training hit often, even where what they hold hurts",
        source="arXiv 2601.16531",
        measured="rank correlation of gate and row hits over tokens, and over those tokens whose loss falls "
        "with the gate shut, beside untrained gates",
        supported="in every layer of every run the correlation lies above the range of untrained gates, "
        "also over the reads that hurt",
        contradicted="in some layer it lies below that range, and in none above",
        script="claim_05_often_hit_rows.py",
    ),
    Claim(
        number=6,
        title="collisions are harmless",
        statement="n-grams whose rows the hash filled with many reads of others lose nothing by it",
        source=f"{PAPER} §2.2",
        measured="gain over the baseline at n-grams with much company in their rows less at those with "
        "little, within strata of their own training count; the hash alone deals the company",
        supported="for every order the difference lies within 0.02 nats of none",
        contradicted="for some order it lies farther off, and for none within",
        controls="busy rows have at least four times the company of quiet ones",
        script="claim_06_collisions.py",
    ),
    Claim(
        number=7,
        title="it is only bigram statistics",
        statement="the memory holds nothing beyond what an ungated table of bigrams of the same size holds",
        source="modded-nanogpt, parameter-golf and other small models with bigram tables",
        measured="loss of the bigram arm, which has no convolution, against that of a memory without one on "
        "the same tokens; in a trained memory, loss with other rows of order 3 beside a random change",
        supported="the bigram arm's loss lies within 0.02 nats of the other's, with all that another seed "
        "may do",
        contradicted="it lies farther than 0.02 nats off, beyond that",
        script="claim_07_bigrams.py",
    ),
    Claim(
        number=8,
        title="edits are local and compose",
        statement="rows can be written so that one n-gram changes its prediction, nothing else does, and "
        "edits add up",
        source="arXiv 2606.19172",
        measured="rise of the target's log p under single and joint edits, bit-equality out of reach, loss "
        "of other n-grams that read an edited row, beside random changes of the same rows",
        supported="targets rise above the control, four fifths of the rise alone is left together, all is "
        "bit-equal out of reach, and other n-grams pay within 0.02 nats of the control",
        contradicted="other n-grams pay over 0.02 nats more than under the control, or joint edits undo "
        "each other, or something out of reach moves",
        script="claim_08_edits.py",
    ),
    Claim(
        number=9,
        title="attention is freed for distance",
        statement="with a memory, attention reaches farther back than the baseline's",
        source=f"{PAPER} §5",
        measured="mean attention distance and attention to the previous tokens by layer, memory model "
        "against baseline, beside a second baseline seed",
        supported="in every layer from the first read on attention reaches farther than the baseline's, by "
        "more than in the layers before, than another seed and than shuffled ids",
        contradicted="in some layer it reaches less far, and in none farther",
        controls="a second seed of the baseline was trained",
        script="claim_09_attention.py",
    ),
    Claim(
        number=10,
        title="early placement is best, the convolution dispensable",
        statement="a memory on early layers does better than one on late layers, and does as well without "
        "its short convolution",
        source=f"{PAPER} §6.2",
        measured="loss of the late arm and of the arm without convolution against the memory's on the same "
        "tokens",
        supported="the late arm's loss lies above by more than two runs differ by seed, and without the "
        "convolution it lies within 0.02 nats",
        contradicted="late, it lies below by more, or without convolution it lies above by over 0.02 nats "
        "and what another seed may do",
        script="claim_10_placement.py",
    ),
    Claim(
        number=11,
        title="token compression matters",
        statement="n-grams over normalised token ids do better than over the ids as they are",
        source=f"{PAPER} §2.2 and §6.2",
        measured="loss of the arm with raw ids against the memory's on the same tokens; the share of "
        "n-grams that the map merges",
        supported="the loss with raw ids lies above the memory's by more than two runs differ by seed",
        contradicted="it lies below by more",
        script="claim_11_compression.py",
    ),
    Claim(
        number=12,
        title="rows of the tail stay untrained",
        statement="rows that training hit rarely stay where they began, or collapse onto each other",
        source="this project",
        measured="how far the tenth of the rows that was hit least has moved and, where it has moved, its "
        "effective rank, beside the same rows at initialisation",
        supported="in every layer they have moved less than their initial norm, or else span less than "
        "three quarters of the directions they did",
        contradicted="in some layer they have moved farther and span more, and in none the claim holds",
        controls="the tenth hit least was hit under 50 times, and is still nearest to its own initial state",
        script="claim_12_rows.py",
    ),
    Claim(
        number=13,
        title="a U-shaped split between experts and memory",
        statement="at equal parameters, loss is least with some 20 to 25 % of them in the memory",
        source=f"{PAPER} §3.1",
        measured="loss by the memory's share of sparse parameters, several seeds a share",
        supported="the least loss lies at a share between the ends, and both ends lie above it",
        contradicted="the loss falls or rises all the way",
    ),
    Claim(
        number=14,
        title="log-linear gain in rows",
        statement="every doubling of the rows lowers the loss by the same amount",
        source=f"{PAPER} §3.2",
        measured="loss by number of rows at equal work, several seeds a size",
        supported="the loss falls with the log of the rows and a curved fit does no better",
        contradicted="it does not fall, or levels off within the range",
    ),
    Claim(
        number=15,
        title="a table in host memory costs under 3 %",
        statement="reading the table from host memory slows generation by less than 3 %",
        source=f"{PAPER} §6.4",
        measured="tokens a second with the table on the accelerator and in host memory, in turns",
        supported="the slow-down lies below 3 %",
        contradicted="it lies above 3 %",
    ),
    Claim(
        number=16,
        title="the gate suppresses memory that conflicts",
        statement="the gate opens less for rows that do not belong to the context than for its own",
        source=f"{PAPER} §2.3",
        measured="AUC of the gate for own rows against colliders' or swapped rows, beside untrained gates",
        supported="in every layer of every run, and for both kinds of rows, the AUC lies above the "
        "untrained gates'",
        contradicted="some AUC lies below the untrained gates', and none above",
        script="claim_16_conflict.py",
    ),
    Claim(
        number=17,
        title="experts relearn what memory could hold",
        statement="without a memory, experts spend themselves on what a look-up could hold",
        source=f"{PAPER} §1",
        measured="information of the first choice of expert about the last tokens, in nats and as a share "
        "of ln(experts), load, and likeness of experts' outputs, with and without memory",
        supported="from the first read on the choice of expert tells more of the last two tokens in the "
        "model without memory, in every layer and on both scales",
        contradicted="it tells less in some layer, and more in none",
        script="claim_17_experts.py",
    ),
    Claim(
        number=18,
        title="early layers do less",
        statement="with a memory, early layers of the network matter less than the baseline's",
        source=f"{PAPER} §6.1",
        measured="loss when a layer is skipped, less the baseline's, beside another seed and shuffled ids",
        supported="skipping costs less than in the baseline in every layer of the first half, the memory's "
        "write kept, by more than between two seeds or with shuffled ids",
        contradicted="it costs more in some layer of the first half, and less in none",
        controls="a second seed of the baseline was trained",
        script="claim_18_early_layers.py",
    ),
    Claim(
        number=19,
        title="look-up time does not grow with the table",
        statement="a look-up takes as long in a large table as in a small one",
        source=f"{PAPER} §2.5",
        measured="time a look-up by rows of the table, sizes in turns within one process",
        supported="1 GB takes within 15 % of what 1 MB takes, with cold and with warm caches",
        contradicted="it takes over 15 % more with either, and within 15 % with neither",
        script="claim_19_lookup_time.py",
    ),
    Claim(
        number=20,
        title="gains differ by domain",
        statement="a memory gains more on prose than on program code",
        source=f"{PAPER} §4",
        measured="loss against the baseline on prose and on Python source, in nats a byte (and a token, as "
        "a share), beside another seed and shuffled ids",
        supported="the gain on prose lies above the gain on code by more than between two seeds of the "
        "baseline, and by more than with shuffled ids",
        contradicted="it lies below by more",
        controls="a second seed of the baseline was trained",
        script="claim_20_domains.py",
    ),
)
"""All claims, by number."""


def claim(number: int) -> Claim:
    """The claim of that number.

    Raises:
        InputError: If there is none.
    """
    for one in CLAIMS:
        if one.number == number:
            return one
    raise InputError(f"There is no claim {number}; they are numbered from 1 to {len(CLAIMS)}.")

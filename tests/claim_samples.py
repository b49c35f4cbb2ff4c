"""A verdict with measures of three units, one of which contradicts, made up."""

from engram_interp import claims
from engram_interp.claims import Measure, Verdict


def measures(*, low: float = 0.04) -> list[Measure]:
    """Two that decide, one control, two beside; `low` is the first one's lower end, in nats."""
    return [
        Measure(
            label="trained without its gate",
            value=0.05,
            low=low,
            high=0.06,
            unit="nats",
            null=0.0,
            compared_with="no difference",
            expects="within",
            margin=0.02,
        ),
        Measure(
            label="held",
            value=0.01,
            low=-0.03,
            high=0.03,
            unit="nats",
            null=0.0,
            expects="within",
            margin=0.02,
        ),
        Measure(
            label="memory off",
            value=0.7,
            low=0.6,
            high=0.8,
            unit="nats",
            null=0.02,
            expects="above",
            role="control",
        ),
        Measure(label="gate's AUC", value=0.6, low=0.5, high=0.7, null=0.5, role="beside"),
        Measure(label="shift", value=-1.25, unit="layers", role="beside"),
    ]


def verdict(*, low: float = 0.04, remark: str = "", created: str = "2026-01-02T00:00:00+00:00") -> Verdict:
    """Claim 4, contradicted unless `low` lies within the margin."""
    return claims.verdict(
        4,
        measures(low=low),
        scope="on a made-up pair",
        remark=remark,
        provenance={"n_documents": 64, "created": created},
    )

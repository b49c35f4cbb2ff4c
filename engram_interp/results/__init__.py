"""Results: labelled numbers with their provenance, and the bundles that hold them.

Opening, drawing and summarising a saved result needs neither torch nor a network:

    from engram_interp.results import open_bundle
    bundle = open_bundle("wiki-nano.engram")
    print(bundle["depth"].summary())
"""

from engram_interp.results.ablation import AblationEffect
from engram_interp.results.ablation_comparison import AblationComparison
from engram_interp.results.arm_losses import ArmLosses
from engram_interp.results.attention import AttentionReach
from engram_interp.results.attribution import MemoryAttribution, MemoryPromotion
from engram_interp.results.base import Result
from engram_interp.results.bundle import Bundle, open_bundle
from engram_interp.results.bundle_writer import write_bundle
from engram_interp.results.crowding import CrowdingEffect
from engram_interp.results.depth import DepthResult
from engram_interp.results.domains import DomainGain
from engram_interp.results.editing import EditReport
from engram_interp.results.experts import ExpertUse
from engram_interp.results.gate_information import GateInformation
from engram_interp.results.gate_preference import GatePreference
from engram_interp.results.gate_tests import GateSelectivity, GateUsefulness
from engram_interp.results.gates import GateReading, GateStatistics
from engram_interp.results.lens import ConvergenceResult, LensTable
from engram_interp.results.lens_depth import LensDepthResult
from engram_interp.results.lookup_time import LookupTime
from engram_interp.results.opinions import SecondOpinions
from engram_interp.results.patchscope import IdentityProbe, PatchscopeResult
from engram_interp.results.retained import RetainedPerformance
from engram_interp.results.series import Series
from engram_interp.results.skipping import SkipEffect
from engram_interp.results.slots import SlotLookup
from engram_interp.results.slots_census import SlotCensus
from engram_interp.results.slots_index import SlotColliders, SlotLoad, SlotOccupants
from engram_interp.results.slots_rows import SlotRows
from engram_interp.results.stitching import StitchingResult
from engram_interp.results.training_watch import TrainingWatch
from engram_interp.results.verdict import Verdict

__all__ = [
    "AblationComparison",
    "AblationEffect",
    "ArmLosses",
    "AttentionReach",
    "Bundle",
    "ConvergenceResult",
    "CrowdingEffect",
    "DepthResult",
    "DomainGain",
    "EditReport",
    "ExpertUse",
    "GateInformation",
    "GatePreference",
    "GateReading",
    "GateSelectivity",
    "GateStatistics",
    "GateUsefulness",
    "IdentityProbe",
    "LensDepthResult",
    "LensTable",
    "LookupTime",
    "MemoryAttribution",
    "MemoryPromotion",
    "PatchscopeResult",
    "Result",
    "RetainedPerformance",
    "SecondOpinions",
    "Series",
    "SkipEffect",
    "SlotCensus",
    "SlotColliders",
    "SlotLoad",
    "SlotLookup",
    "SlotOccupants",
    "SlotRows",
    "StitchingResult",
    "TrainingWatch",
    "Verdict",
    "open_bundle",
    "write_bundle",
]

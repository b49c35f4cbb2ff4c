"""From a path, or a module in memory, to a `SubjectModel` that every analysis understands."""

from engram_interp.checkpoints.loading import load_model
from engram_interp.checkpoints.relayered import relayered
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.checkpoints.wrapping import wrap

__all__ = ["SubjectModel", "load_model", "relayered", "wrap"]

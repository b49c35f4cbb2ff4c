"""From a path, or a module in memory, to a `SubjectModel` that every analysis understands."""

from engram_interp.checkpoints.address_book import open_addresses
from engram_interp.checkpoints.baseline import load_baseline
from engram_interp.checkpoints.loading import load_model
from engram_interp.checkpoints.relayered import relayered
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.checkpoints.table_rows import open_tables
from engram_interp.checkpoints.wrapping import wrap

__all__ = [
    "SubjectModel",
    "load_baseline",
    "load_model",
    "open_addresses",
    "open_tables",
    "relayered",
    "wrap",
]

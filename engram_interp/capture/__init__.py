"""Looking at a model while it runs, and changing one thing at a time."""

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.intervene import intervene
from engram_interp.capture.record import Recording, record

__all__ = ["Encoded", "Recording", "encode", "intervene", "record"]

"""Capturing a model larger than memory: all prompts through one layer at a time, each weight read once."""

from engram_interp.capture.streamed.run import capture, planned

__all__ = ["capture", "planned"]

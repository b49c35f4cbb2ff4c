"""Capturing a model larger than memory: all prompts through one layer at a time, each weight read once."""

from engram_interp.capture.streamed.run import Step, capture, planned
from engram_interp.checkpoints.deepseek_v41.loading import on_disk

__all__ = ["Step", "capture", "on_disk", "planned"]

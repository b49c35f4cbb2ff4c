"""The native hooked transformer with memory, and its training loop."""

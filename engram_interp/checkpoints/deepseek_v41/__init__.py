"""DeepSeek-V4.1 checkpoints as they are released, whole in memory or left on the disk."""

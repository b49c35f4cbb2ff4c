"""DeepSeek-V4.1's text backbone as a hooked module: prefill in float32, no cache, no draft layers."""

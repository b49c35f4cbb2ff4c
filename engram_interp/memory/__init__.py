"""The Engram itself: token compression, hash layout and addressing, and the gated memory module."""

"""Texts in: documents, tokenizers, packed token windows, prompt sets."""

"""Synthetic speech for training: texts, phones, voices and the Kokoro model, batched."""

__all__: list[str] = []

"""Streaming speech recognition and audio generation on state-space models."""

"""Waveform models: sound sample by sample, from nothing or from a beginning."""

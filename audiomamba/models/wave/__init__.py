"""Waveform models: sound sample by sample, from nothing or from a beginning.

``config``, ``sampling``, ``engine``, ``native`` and ``synthesizer`` do not import torch.
"""

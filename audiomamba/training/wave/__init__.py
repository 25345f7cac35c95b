"""Training of waveform models: recordings and made sound, crops, bits a sample, the ablation."""

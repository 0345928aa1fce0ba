"""Baselines on the same task and protocol: `pixel` (linear on 32 x 32 pixels) and `cnn` (supervised network)."""

"""Trainer, callbacks, checkpoint files, run folder, optimiser, environment."""

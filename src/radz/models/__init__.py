"""Tensors in, tensors out: encoder, losses, anchors, prompts, zero-shot scores. No Lightning, no run folder."""

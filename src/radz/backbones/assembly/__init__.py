"""A LLaVA folder out of a causal language model and a vision tower."""

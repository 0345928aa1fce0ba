"""`radz import`: checkpoints in the layout of haotian-liu/LLaVA and LLaVA-Med v1.5 as Hugging Face folders."""

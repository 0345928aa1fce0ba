"""What `method:` may be: DFAT with DKAM, CLIP, VQA, probe, fine-tuning, CNN; and the pixel baseline of every run."""

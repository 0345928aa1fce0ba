"""What makes a run small enough for a test."""


def small_phantom(corpus: int) -> list[str]:
    """Overrides of a corpus of the phantom, by its number."""
    phantom = f"data.corpora.{corpus}.phantom"
    return [f"{phantom}.studies={{train: 24, val: 12, test: 16}}", f"{phantom}.image_px=64", f"{phantom}.voxels=48"]


SMALL = [
    *small_phantom(0),
    "data.image_size=64",
    "data.batch_size=8",
    "backbone.tiny.patch_size=16",
    "backbone.tiny.vision_width=32",
    "backbone.tiny.width=32",
    "trainer.max_epochs=1",
    "trainer.log_every_steps=1",
    "trainer.progress_bar=false",
    "scoring.replicates=100",
    "scoring.cases=2",
    "wandb.mode=disabled",
]
"""Overrides that make any phantom experiment run in seconds."""
BARE = [*SMALL, "scoring.pixel_baseline=false", "scoring.wordings="]
"""and without what is measured beside the scores, for tests that look at something else"""
FEW = "scoring.findings=[edema,cardiomegaly,pleural_effusion]"
"""a fifth of the prompts, which every validation encodes anew"""

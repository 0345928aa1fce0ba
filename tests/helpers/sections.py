"""What takes sections of an experiment, given the experiment."""

from pathlib import Path

from radz.config.schema import Experiment
from radz.models import factory
from radz.models.encoder import Encoder


def backbone_folder(of: Experiment) -> Path:
    """The backbone folder of an experiment, see `factory.backbone_folder`."""
    return factory.backbone_folder(of.backbone, of.dfat.instruction, of.seed, of.cache_dir)


def base_encoder(of: Experiment) -> tuple[Encoder, str]:
    """Encoder and digest of an experiment, see `factory.encoder`."""
    return factory.encoder(of.backbone, of.dfat, of.seed, of.cache_dir, of.trainer.accelerator)

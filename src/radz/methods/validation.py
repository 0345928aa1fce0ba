"""What the validation splits of a trained run say of its scores, read from its run folder or export folder."""

from __future__ import annotations

from pathlib import Path

from data_modules.corpus_config import CorpusConfig
from data_modules.errors import InputError
from data_modules.files import read_json
from data_modules.listing import listed
from radz.methods.export_folder import RADZ_JSON, exported_experiment, is_export
from radz.metrics.score_table import ScoreTable
from radz.metrics.validation_rules import Rules
from radz.training.run_folder import load_run

KEY = "validation"
"""of metrics.json and radz.json"""


def validations(folder: Path) -> dict[str, Rules]:
    """Corpus -> rules of its validation split; {} for a run that had none.

    Folders of an earlier radz hold less: of a run, its predictions on validation are read; an export has thresholds
    alone.

    Raises:
        InputError: the file that holds them is damaged.
    """
    file = folder / (RADZ_JSON if is_export(folder) else "metrics.json")
    content = read_json(file, "export the run again" if is_export(folder) else "repeat the train command") or {}
    try:
        if KEY in content:
            return {corpus: Rules.read(plain) for corpus, plain in content[KEY].items()}
        if is_export(folder):
            corpora = exported_experiment(folder)[0].data.corpora
            return {
                key.rpartition("/")[0]: _thresholds_alone(key.rpartition("/")[0], of["validation"], corpora)
                for key, of in content.get("thresholds", {}).items()
                if of.get("validation")
            }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: {KEY} is damaged; put the file back as radz wrote it") from None
    tables = [ScoreTable.read_csv(path) for path in listed(folder / "predictions", "*_val.csv")]
    corpora = load_run(folder).data.corpora if tables else []
    return {table.corpus: Rules.of(table, _modality(table.corpus, corpora)) for table in tables}


def _thresholds_alone(corpus: str, thresholds: dict[str, dict[str, float]], corpora: list[CorpusConfig]) -> Rules:
    return Rules(f"{corpus}/val", _modality(corpus, corpora), thresholds, {}, {}, {})


def _modality(corpus: str, corpora: list[CorpusConfig]) -> str:
    """The modality of a corpus of results: the only one of the experiment, or by its name; '' where neither says it."""
    every = {one.modality for one in corpora}
    return every.pop() if len(every) == 1 else next((one.modality for one in corpora if one.name == corpus), "")

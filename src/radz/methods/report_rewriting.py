"""`dfat.text_source: rewrite`: each distinct training report once in the words of the backbone's language model.

The answers stand in a file of the cache, beside the reports, so that a person can read and correct them, and the next
run finds them. A stopped run goes on behind the last one written. They are patient data: the file is its owner's alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from data_modules.datamodule import StudyDataModule
from data_modules.disk import writing
from data_modules.errors import InputError
from data_modules.files import replacing
from data_modules.lock import locked
from data_modules.parsing import parse_json
from data_modules.progress import Bar
from radz.backbones.folder import folder_digest
from radz.config.backbone import BackboneConfig
from radz.config.dfat import DfatConfig, RewriteConfig
from radz.methods.dkam import Writer
from radz.models import factory
from radz.models.encoder import Encoder
from radz.training.trainer import lone_trainer

log = logging.getLogger(__name__)
SAVED = 8
"""groups of `rewrite.batch_size` reports that are written between two looks at the disk"""


def reword(
    data: StudyDataModule, backbone: BackboneConfig, dfat: DfatConfig, seed: int, cache_dir: str, accelerator: str
) -> str:
    """Give the training studies rewritten reports, written now where they are missing.

    Returns:
        12 hex digits over reports and answers.

    Raises:
        InputError: a file that cannot be read, or, where `dfat.rewrite.file` names one, a report that it lacks.
    """
    config = dfat.rewrite
    reports = list(dict.fromkeys(data.texts[row] for row in data.table.rows("train") if data.texts[row]))
    if config.file:
        place = Path(config.file).expanduser()
        known = read(place)
        if lost := sum(report not in known for report in reports):
            raise InputError(
                f"dfat.rewrite.file: {place} lacks {lost} of the {len(reports)} training reports; add them, or leave "
                "the key empty and the backbone writes all"
            )
    else:
        folder = factory.backbone_folder(backbone, dfat.instruction, seed, cache_dir)
        place, known = _place(config, folder, backbone.quantize, cache_dir), {}
        with suppress(InputError):  # none is there, or another process writes it
            known = read(place)
        if any(report not in known for report in reports):
            with locked(place.with_suffix(".lock")):
                known = read(place, cut=True) if place.is_file() else {}
                if missing := [report for report in reports if report not in known]:
                    log.info(
                        "the backbone rewrites %d distinct training reports, %d are there", len(missing), len(known)
                    )
                    full = replace(backbone, depth="full")
                    encoder = factory.encoder(full, dfat, seed, cache_dir, accelerator)[0].eval()
                    _ReportWriter(encoder, config, place, len(missing)).write(missing, lone_trainer(accelerator))
                    known = read(place)
    words = {report: known[report] for report in reports}
    empty = sum(not answer for answer in words.values())
    log.info("%d distinct training reports rewritten in %s; read them before you believe them", len(words), place)
    if empty:
        log.warning("dfat.text_source=rewrite: %d of %d answers are empty; those reports stay", empty, len(words))
    data.reword(words)
    return _digest(sorted(words.items()))


class _ReportWriter(Writer):
    """Reports in, lines of the file out."""

    def __init__(self, encoder: Encoder, config: RewriteConfig, place: Path, count: int) -> None:
        super().__init__(encoder, config.max_new_tokens, config.batch_size)
        self.prompt, self.place = config.prompt, place
        self.bar = Bar(total=count, desc="rewrite", unit="report")

    def write(self, reports: Iterable[str], trainer: Any) -> None:
        """Answer all, those of like length together."""
        tokenizer = self.encoder.backbone.tokenizer
        ordered = sorted(reports, key=lambda report: len(tokenizer(report).input_ids))
        loader: DataLoader[str] = DataLoader(
            ordered,  # type: ignore[arg-type]
            batch_size=SAVED * self.together,
            collate_fn=list,
        )
        with self.bar:
            trainer.predict(self, loader, return_predictions=False)

    def predict_step(self, batch: list[str], batch_idx: int) -> list[str]:
        answers = super().predict_step([self.prompt.format(report=report) for report in batch], batch_idx)
        lines = [
            json.dumps({"report": report, "rewritten": " ".join(answer.split())}, ensure_ascii=False) + "\n"
            for report, answer in zip(batch, answers, strict=True)
        ]
        with writing(self.place):
            handle = os.open(self.place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with open(handle, "a", encoding="utf-8") as file:
                file.writelines(lines)
        self.bar.update(len(batch))
        return answers


def read(place: Path, cut: bool = False) -> dict[str, str]:
    """{report: rewritten} of a file; with `cut`, a last line that a stopped process left unfinished is taken away.

    Raises:
        InputError: missing, or a line that does not hold the two texts. The texts are not repeated in the error.
    """
    try:
        content = place.read_bytes()
    except OSError as error:
        raise InputError(f"dfat.rewrite.file: {place}: cannot be read ({error.strerror}); check the path") from None
    if cut and content and not content.endswith(b"\n"):
        content = _mended(content)
        with replacing(place) as draft:
            draft.touch(0o600)
            draft.write_bytes(content)
    found: dict[str, str] = {}
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            report, answer = _texts(line, f"{place}, line {number}")
            found[report] = answer
    return found


def _mended(content: bytes) -> bytes:
    """Whole lines: the last one is ended, or goes where it was not written to its end."""
    start = content.rfind(b"\n") + 1
    try:
        parse_json(content[start:])
    except ValueError:
        return content[:start]
    return content + b"\n"


def _texts(line: bytes, where: str) -> tuple[str, str]:
    try:
        entry = parse_json(line)
    except ValueError:
        raise InputError(f"{where}: not JSON in UTF-8; correct or delete the line") from None
    report, answer = (entry.get(k) if isinstance(entry, Mapping) else None for k in ("report", "rewritten"))
    if not isinstance(report, str) or not isinstance(answer, str):
        raise InputError(f'{where}: must be {{"report": ..., "rewritten": ...}} with two texts; correct the line')
    return report, answer


def _place(config: RewriteConfig, backbone: Path, quantize: str, cache_dir: str) -> Path:
    """Where answers to this prompt by these weights stand."""
    how = [folder_digest(backbone, []), quantize, config.prompt, config.max_new_tokens]
    return Path(cache_dir).expanduser() / "rewritten" / f"{_digest(how)}.jsonl"


def _digest(content: Any) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=6).hexdigest()

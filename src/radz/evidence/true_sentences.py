"""Whether images tell the sentences of their own reports from false ones: other side, other severity, other finding.

A model may read a name and a denial and yet not where or how much: each sentence of a report that asserts a finding
is set against its twin with side or severity turned round (docs/method.md 2.10), and against a sentence of another
study that the labels say is false. Polarity is measured with every run, under other words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_modules.counting import counted
from radz.evidence.items import Item
from radz.evidence.open_run import Opened, RowNumbers
from radz.metrics import bootstrap
from radz.metrics.estimates import entry, in_words
from radz.models.losses import Features
from radz.models.sentences import Asserted, Sentences
from radz.report import figures

TITLE = "True sentences against false ones"
OTHER = "finding"
"""a sentence of another study on what this one lacks"""


@dataclass(frozen=True)
class Pair:
    """A true sentence of a study and a false one."""

    place: int
    """of the study among those looked at"""
    kind: str
    true: str
    false: str


def compute(run: Opened) -> Item:
    """Set every asserting sentence of the split's studies against false ones."""
    rows = run.rows(run.settings.split, run.settings.studies)
    known = run.data.ontology
    dfat = run.module.dfat if run.module.dfat.twins else replace(run.module.dfat, twins="prompts/twins.yaml")
    reader = Sentences(dfat, run.module.bank.names, known, run.module.modalities)
    pairs = list(_pairs(run, rows, reader))
    if not pairs:
        studies = counted(len(rows), "study")
        said = f"No report of the {studies} of {run.settings.split} asserts a finding; nothing is measured."
        return Item("sentences", TITLE, [said], {"kinds": {}})
    nearer = _nearer(run, rows, reader, pairs)
    return _item(run, pairs, nearer, run.patients(rows[[pair.place for pair in pairs]]))


def _pairs(run: Opened, rows: RowNumbers, reader: Sentences) -> Iterator[Pair]:
    """Every sentence with its twins, and with one of another study, drawn by the seed."""
    studies: list[tuple[Asserted, ...]] = []
    lacked: list[set[str]] = []
    for batch in run.batches(rows):
        labels = run.module.label_view.for_losses(batch, run.module.bank.names)
        for report, modality, row in zip(batch.reports, run.modalities(batch), labels.tolist(), strict=True):
            studies.append(reader.asserted(report, modality))
            lacked.append({name for name, value in zip(run.module.bank.names, row, strict=True) if value == 0})
    generator = np.random.default_rng(run.settings.seed)
    every = list({one.text: one for of_study in studies for one in of_study}.values())
    for place, of_study in enumerate(studies):
        own = {one.text for one in of_study}
        false = [one.text for one in every if one.findings & lacked[place] and one.text not in own]
        for one in of_study:
            yield from (Pair(place, kind, one.text, twin) for kind, twin in one.twins)
            if false:
                yield Pair(place, OTHER, one.text, false[generator.integers(len(false))])


def _nearer(run: Opened, rows: RowNumbers, reader: Sentences, pairs: list[Pair]) -> NDArray[np.bool_]:
    """[n], whether the image is nearer to the true sentence of each pair."""
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.true, pair.false)))
    place = {text: number for number, text in enumerate(texts)}
    spoken = run.spoken(texts)
    with torch.no_grad():
        found: list[bool] = []
        start = 0
        for batch in run.batches(rows, run.data.config.eval_batch_size):
            image = run.encoder.encode_images(batch.pixels, batch.image_counts, run.modalities(batch))
            own = [pair for pair in pairs if start <= pair.place < start + len(batch)]
            cosines = _of_pairs(run, reader, image, spoken, own, place, start)
            found += (cosines[0] > cosines[1]).tolist()
            start += len(batch)
    return np.array(found, dtype=bool)


def _of_pairs(
    run: Opened, reader: Sentences, image: Features, spoken: Features, pairs: list[Pair], place: dict[str, int],
    start: int,
) -> Tensor:  # fmt: skip
    """[2, n] of the true and the false sentence of pairs whose studies are those of `image`."""
    if not pairs:
        return image.overall.new_zeros(2, 0)
    said = sorted({place[text] for pair in pairs for text in (pair.true, pair.false)})
    column = {text: number for number, text in enumerate(said)}
    cosines = reader.cosines(run.encoder, image, spoken.rows(torch.tensor(said, device=spoken.overall.device)))
    studies = [pair.place - start for pair in pairs]
    return torch.stack([
        cosines[studies, [column[place[text]] for text in texts]]
        for texts in ([pair.true for pair in pairs], [pair.false for pair in pairs])
    ])  # fmt: skip


def _item(run: Opened, pairs: list[Pair], nearer: NDArray[np.bool_], patients: list[str]) -> Item:
    kinds = sorted({pair.kind for pair in pairs}, key=lambda kind: (kind == OTHER, kind))
    header = ("the false one has another", "sentences", "share nearer to the true one")
    item = Item("sentences", TITLE, [], {"kinds": {}}, header=header)
    data: figures.CsvRows = [["kind", "sentences", "share", "low", "high"]]
    for kind in kinds:
        of_it = np.array([pair.kind == kind for pair in pairs])
        share = _share(nearer[of_it], [one for one, wanted in zip(patients, of_it, strict=True) if wanted], run)
        item.numbers["kinds"][kind] = {"sentences": int(of_it.sum()), **share}
        item.rows.append([kind, f"{of_it.sum():,}", [*share.values()]])
        data.append([kind, int(of_it.sum()), *share.values()])
    told = "; ".join(f"{kind} {in_words(item.numbers['kinds'][kind], '.2f')}" for kind in kinds)
    item.says.append(
        "Sentences of reports that assert a finding, each beside a false one: share nearer to the true one (chance .5) "
        f"where the false one has another {told}."
    )
    caption = "Share of sentences that lie nearer to their image than a false one, with 95 % intervals by patient."
    item.pictures.append(("sentences", _figure(item.numbers["kinds"]), data, caption))
    return item


def _figure(kinds: dict[str, dict[str, float]]) -> Any:
    figure = figures.new_figure(1.1 + 0.35 * len(kinds))
    axes = figure.subplots()
    # NaN, which is not drawn, where there is no interval.
    value, low, high = (np.array([of[name] for of in kinds.values()], dtype=float) for name in ("value", "low", "high"))
    axes.errorbar(value, range(len(kinds)), xerr=[value - low, high - value], fmt="o", color=figures.BLUE)
    axes.axvline(0.5, color=figures.GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set(xlim=(0, 1), ylim=(len(kinds) - 0.5, -0.5), xlabel="share nearer to the true sentence")
    axes.set_yticks(range(len(kinds)), [f"another {kind}" for kind in kinds])
    return figure


def _share(nearer: NDArray[np.bool_], patients: list[str], run: Opened) -> dict[str, Any]:
    """Share with its interval by patient, who brings all of his sentences."""
    hits, settings = nearer[:, None].astype(float), run.settings
    samples = bootstrap.means_by_unit(hits, patients, settings.replicates, settings.seed)
    share = entry(float(nearer.mean()), samples[:, 0])
    return {name: None if one is None else round(one, 4) for name, one in share.items()}

"""The page of `make paper`: sections with pictures, published numbers beside ours, CSV files beside the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from data_modules.errors import InputError
from data_modules.files import replacing, write_text
from radz.metrics.intervals import holds
from radz.multirun.ablation import page as suite
from radz.multirun.paper.plan import Plan
from radz.multirun.paper.sections import Part, Results, SetScores
from radz.report.evidence_section import sections as evidence_sections
from radz.report.templates import environment as templates
from radz.training import environment

PUBLISHED = Path(__file__).parent / "published.csv"
ABSTRACT = "read in the abstract"
"""begins the note of a number whose table, classes and split were not read"""
METRICS = {"auroc": "AUROC", "f1_oracle": "F1 at the best threshold on test", "accuracy_oracle": "accuracy there"}


def write_page(preset: str, plan: Plan, results: Results, out: Path) -> Path:
    """Write paper.html with its pictures and CSV files into `out`; returns its path."""
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    for part in results.parts:
        try:
            parts.append(_part(part, results, out))
        except InputError as error:  # runs of other studies, or without the scorer
            results.failed[part.section.title] = str(error)
    page = templates(Path(__file__).parent, Path(suite.__file__).parent).get_template("paper.html.jinja").render(
        title=f"LLaVA-RadZ, tables and figures: {preset}", plan=plan, results=results, parts=parts,
        environment=environment.environment(), today=date.today().isoformat(),
    )  # fmt: skip
    path = out / "paper.html"
    write_text(path, page)
    return path


def published(datasets: Sequence[str]) -> pd.DataFrame:
    """Numbers of the literature and of the authors' logs for these data sets.

    Columns: method, variant, dataset, classes, metric, value, source, note.
    """
    frame = pd.read_csv(PUBLISHED, dtype=str, keep_default_na=False)
    frame["value"] = frame.value.astype(float)
    return frame[frame.dataset.isin(datasets)]


def marked(frame: pd.DataFrame) -> pd.DataFrame:
    """The numbers with `ABSTRACT` behind the variant of those of which no more than the abstract was read."""
    abstract = frame.note.str.startswith(ABSTRACT)
    return frame.assign(variant=frame.variant.where(~abstract, frame.variant + f" ({ABSTRACT})"))


def by_set(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{data set: one line per method, variant and classes, one column per metric}; NaN where nothing was published."""
    keys = ["method", "variant", "classes"]
    return {
        str(name): part.pivot_table("value", keys, "metric", aggfunc="first")
        .reindex(columns=list(METRICS))
        .sort_index()
        for name, part in frame.groupby("dataset")
    }


def _part(part: Part, results: Results, out: Path) -> dict[str, Any]:
    folder = out / re.sub(r"[^a-z0-9]+", "_", part.section.title.lower()).strip("_")
    found: dict[str, Any] = {"section": part.section, "folder": folder.name}
    if part.sets:
        found |= _sets(part.sets, folder)
    elif part.section.evidence:
        found["evidence"] = evidence_sections(results.base.runs[0])
    elif len(part.arms) > 1:
        found["arms"] = part.arms
        found["compared"] = suite.compared(part.arms, folder, part.section.scorer or None)
        found["unscored"] = suite.unscored(part.arms, found["compared"])
    return found


def _sets(sets: Sequence[SetScores], folder: Path) -> dict[str, Any]:
    """Ours with intervals, and the literature in tables of one metric each; ours.csv and published.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "protocol": one.protocol, "measured_on": one.measured_on, "split": one.key, "scorer": one.scorer,
            "studies": one.results[0]["coverage"]["studies"], "findings": one.findings(metric),
            "seeds": len(one.results), "interval": holds(len(one.results)), "metric": metric, **one.macro[metric],
        }
        for one in sets for metric in METRICS
    ]  # fmt: skip
    literature = published(sorted({one.corpus for one in sets}))
    for name, frame in (("ours", pd.DataFrame(rows)), ("published", literature)):
        with replacing(folder / f"{name}.csv") as draft:
            frame.to_csv(draft, index=False)
    return {
        "sets": {
            corpus: [one for one in sets if one.corpus == corpus] for corpus in dict.fromkeys(s.corpus for s in sets)
        },
        "metrics": METRICS,
        "published": by_set(marked(literature)),
        "sources": sorted({f"{one.method}: {one.source}" for one in literature.itertuples()}),
    }

"""The results of metrics.json as lines of the log."""

from __future__ import annotations

import logging
from typing import Any

from radz.metrics.estimates import in_words
from radz.metrics.results_file import averaged

log = logging.getLogger(__name__)


def log_summary(metrics: dict[str, Any]) -> None:
    """One line per corpus and scorer: macro AUROC with interval, and the groups of findings by seen."""
    for key, result in metrics["results"].items():
        log.info("%s: macro AUROC [95 %% interval] per scorer", key)
        most = max(len(averaged(result, scorer)) for scorer in result["scorers"])
        for scorer, values in result["scorers"].items():
            groups = {"macro": values["macro"], **{f"seen={g}": v for g, v in values["macro_by_seen"].items()}}
            cells, count = [], len(averaged(result, scorer))
            for group, entry in groups.items():
                auroc = entry["auroc"]
                if auroc["value"] is not None:
                    part = f" (over {count} of {most})" if group == "macro" and count != most else ""
                    cells.append(f"{group} {in_words(auroc)}{part}")
            mark = "*" if scorer == metrics["headline_scorer"] else " "
            log.info("%s %-12s %s", mark, scorer, "  ".join(cells))
            if (often := values.get("macro_by_frequency")) and mark == "*":
                means = {"mAP": values["macro"]["auprc"], **{name: of["auprc"] for name, of in often.items()}}
                every = ", ".join(f"{name} {in_words(m)}" for name, m in means.items() if m["value"] is not None)
                log.info("  average precision, mean over findings by how often training has them: %s", every)
        if one := result.get("choice"):
            for scorer, values in one["scorers"].items():
                log.info(
                    "  one of %d findings, %s: accuracy %s (chance %.3f); standardised over the set, transductive: %s",
                    len(one["findings"]), scorer, in_words(values["accuracy"]), one["chance"],
                    in_words(values["accuracy_standardised"]),
                )  # fmt: skip
        if words := result.get("wordings"):
            log.info(
                "  in other words (%d wordings that no training saw): %.3f to %.3f (median %.3f); told from their "
                "denial: %.2f of findings present, %.2f of those absent", len(words["auroc"]["by_wording"]),
                words["auroc"]["least"], words["auroc"]["most"], words["auroc"]["median"],
                words["negation"]["present"], words["negation"]["absent"],
            )  # fmt: skip
        if sets := result.get("prompt_sets"):
            told = ", ".join(f"{name} {in_words(value)}" for name, value in sets["auroc"].items())
            log.info("  with published prompts: %s", told)

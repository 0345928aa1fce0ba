"""What a sweep leaves: sweep.csv, one row per run, and parallel coordinates of the runs that ended by themselves."""

from __future__ import annotations

import logging
from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import TrialState

from data_modules.counting import counted
from data_modules.files import replacing
from radz.multirun.sweep.file import Sweep

log = logging.getLogger(__name__)
REASON = "reason"
"""attribute of a trial, and column: why a run failed"""
FEWEST = 2
"""Runs from which on the picture says something."""


def again_of(study: optuna.Study) -> list[int]:
    """Numbers of the runs that were cut off and asked for again under another number; they count for nothing."""
    return list(study.user_attrs.get("again", []))


def write_results(study: optuna.Study, sweep: Sweep, out: Path) -> Path:
    """Write sweep.csv (best first) and parallel_coordinates.png once a run has ended; returns the table's path."""
    again = again_of(study)
    rows = [
        {
            "run": trial.number,
            "state": trial.state.name.lower(),
            sweep.metric: trial.value if trial.value is not None else _last(trial),
            "validations": len(trial.intermediate_values),
            **trial.params,
            REASON: trial.user_attrs.get(REASON, ""),
            "run_dir": trial.user_attrs.get("run_dir", ""),
        }
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and trial.number not in again
    ]
    path = out / "sweep.csv"
    if not rows:
        return path
    table = pd.DataFrame(rows).sort_values(sweep.metric, ascending=not sweep.maximize, na_position="last")
    with replacing(path) as draft:
        table.to_csv(draft, index=False)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = [p.key for p in sweep.parameters if len({str(trial.params[p.key]) for trial in complete}) > 1]
    if len(complete) >= FEWEST and varied:
        _picture(study, sweep, varied, out / "parallel_coordinates.png")
    shown = table.drop(columns=[REASON, "run_dir"]).head(10)
    log.info("%s, best first:\n%s", counted(len(table), "run"), shown.to_string(index=False, float_format="%.4g"))
    return path


def _last(trial: optuna.trial.FrozenTrial) -> float:
    """The last value of a run that was ended early; NaN without any."""
    return next(reversed(trial.intermediate_values.values()), float("nan"))


def _picture(study: optuna.Study, sweep: Sweep, varied: list[str], path: Path) -> None:
    import warnings

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = optuna.visualization.matplotlib.plot_parallel_coordinate(study, params=varied, target_name=sweep.metric)
    axes.set_title("")
    for lines in axes.collections:
        lines.set_cmap("viridis")  # the palette that is given fades to white
    figure = pyplot.gcf()
    figure.set_size_inches(4 + 2.5 * len(varied), 5)
    with replacing(path) as draft:
        figure.savefig(draft, dpi=150, bbox_inches="tight", format="png")
    pyplot.close(figure)

"""``visionloop train search``: trials until the study has as many as it shall have.

Optuna chooses the numbers (Akiba et al., 2019, arXiv 1907.10902); every trial is a training of
its own in ``variants/search/<trial>``, an MLflow run below that of the search. The study is a
SQLite file: after Ctrl-C or a crash the same command goes on, inside the trial that was cut
off.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from visionloop.core.config import ProjectParams, load_blocks
from visionloop.core.errors import ConfigError, InputError, VisionloopError
from visionloop.core.files import canonical_json, sha256_of_bytes, write_text
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.data.params import DataParams
from visionloop.data.versions.version import load_version
from visionloop.training.params import TrainingParams
from visionloop.training.resume import EpochRow
from visionloop.training.search.params import SearchParams
from visionloop.training.search.report import write_search_report
from visionloop.training.search.space import check_space, suggest, write_trial_params
from visionloop.training.tracking import TrackedRun, start_run
from visionloop.training.train import StoppedEarly, train

__all__ = ["SearchReport", "search"]

CUT_OFF = "cut off"
"""Study attribute: numbers of trials that ended with their process and were tried again."""


@dataclass(frozen=True)
class SearchReport:
    """What a search found.

    Attributes
    ----------
    folder : Path
        ``search.png``, ``trials.csv``, ``best.yaml``.
    best : dict
        Dotted name in the training block to its best value.
    value : float
        Of the metric, with these numbers.
    trials : int
        Finished ones of this study.
    resumed_from : int
        Trials that earlier calls had finished.
    """

    folder: Path
    best: dict[str, Any]
    value: float
    trials: int
    resumed_from: int


def search(*, workspace: Workspace) -> SearchReport:
    """Try numbers of ``training.search.space`` and write ``reports/search``.

    Raises
    ------
    ConfigError
        If the space is wrong, the metric is none, or the study was made with other numbers.
    VisionloopError
        If not one trial could be finished; the reason of the last is named.
    """
    blocks = load_blocks(workspace.params, {"project": ProjectParams, "training": TrainingParams})
    wanted: SearchParams = blocks["training"].search
    check_space(workspace.params, wanted)
    study = _open_study(workspace, wanted, blocks["project"].seed)
    _refuse_other_numbers(workspace, study, wanted)
    resumed_from = len(_finished(study))
    run = start_run(
        workspace,
        experiment=blocks["project"].model,
        name=f"search {wanted.name}",
        resumed_run_id=study.user_attrs.get("run_id", ""),
    )
    study.set_user_attr("run_id", run.run_id)
    run.log_params({"search": wanted.model_dump(mode="json")})
    folder = workspace.reports / "search"
    try:
        _run_trials(workspace, study, wanted, run, folder)
    except KeyboardInterrupt:
        run.finish("KILLED", "interrupted; the same command goes on")
        raise
    except Exception as error:
        run.finish("FAILED", str(error))
        raise
    run.log_files(folder, "search")
    run.finish("FINISHED")
    best = study.best_trial
    return SearchReport(
        folder, dict(best.params), float(best.value or 0.0), len(_finished(study)), resumed_from
    )


def _open_study(workspace: Workspace, wanted: SearchParams, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    path = workspace.own / "artifacts" / "search" / f"{wanted.name}.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    samplers = optuna.samplers
    sampler = (
        samplers.TPESampler(seed=seed, n_startup_trials=max(4, wanted.trials // 4))
        if wanted.sampler == "tpe"
        else samplers.RandomSampler(seed=seed)
    )
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
    return optuna.create_study(
        study_name=wanted.name,
        storage=f"sqlite:///{path}",
        direction=wanted.direction,
        sampler=sampler,
        pruner=pruner if wanted.prune else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def _refuse_other_numbers(workspace: Workspace, study: optuna.Study, wanted: SearchParams) -> None:
    """Values of trials can be compared only if all else was the same."""
    blocks = load_blocks(
        workspace.params,
        {"project": ProjectParams, "data": DataParams, "training": TrainingParams},
    )
    version = load_version(workspace.version(blocks["data"].version), workspace.images)
    training = blocks["training"].model_dump(mode="json", exclude={"export", "search"})
    content = [
        blocks["project"].model_dump(mode="json"),
        {name: value for name, value in training.items() if name not in wanted.space},
        version.fingerprint,
        [wanted.metric, wanted.direction],
        {name: row.model_dump(mode="json") for name, row in wanted.space.items()},
    ]
    key = sha256_of_bytes(canonical_json(content))
    if study.user_attrs.get("key", key) != key:
        raise ConfigError(
            f"study '{wanted.name}'",
            "was made with other numbers, another space or another dataset version",
            "give training.search.name another name, or put the numbers back",
        )
    study.set_user_attr("key", key)


def _run_trials(
    workspace: Workspace,
    study: optuna.Study,
    wanted: SearchParams,
    run: TrackedRun,
    folder: Path,
) -> None:
    start = time.monotonic()
    _take_up_what_was_cut_off(study)
    reason = ""
    while len(_finished(study)) < wanted.trials:
        if wanted.max_hours and time.monotonic() - start > wanted.max_hours * 3600:
            say_step(f"{wanted.max_hours:g} hours are over")
            break
        trial = study.ask()
        reason = _try_once(workspace, study, trial, wanted, run) or reason
        _record(study, wanted, run, folder)
    if not any(one.state == TrialState.COMPLETE for one in study.trials):
        raise VisionloopError("search", f"no trial could be finished; the last: {reason}")
    _record(study, wanted, run, folder)


def _take_up_what_was_cut_off(study: optuna.Study) -> None:
    """A trial that was running when the process ended is tried again, with its numbers."""
    for one in study.get_trials(states=(TrialState.RUNNING,)):
        study.set_user_attr(CUT_OFF, [*study.user_attrs.get(CUT_OFF, []), one.number])
        study.tell(one.number, state=TrialState.FAIL)
        study.enqueue_trial(one.params)


def _try_once(
    workspace: Workspace,
    study: optuna.Study,
    trial: Trial,
    wanted: SearchParams,
    run: TrackedRun,
) -> str:
    """One training; returns why it failed, or nothing."""
    chosen = suggest(trial, wanted)
    # Named by its numbers, so that a trial that was cut off finds its resume point.
    name = sha256_of_bytes(canonical_json([wanted.name, chosen]))[:8]
    place = Workspace(workspace.root, variant=f"search/{name}")
    write_trial_params(workspace.params, place.params, chosen)
    shown = ", ".join(f"{key} {_short(value)}" for key, value in chosen.items())
    say_step(f"trial {len(_finished(study)) + 1}/{wanted.trials}: {shown}")

    def watch(row: EpochRow) -> None:
        trial.report(_value(row, wanted), int(row["epoch"]))
        if trial.should_prune():
            raise StoppedEarly(f"{wanted.metric} is worse than that of most trials by now")

    try:
        report = train(workspace=place, parent_run_id=run.run_id, watch=watch)
    except StoppedEarly:
        study.tell(trial, state=TrialState.PRUNED)
    except InputError:
        study.tell(trial, state=TrialState.FAIL)
        raise
    except VisionloopError as error:
        trial.set_user_attr("reason", str(error))
        study.tell(trial, state=TrialState.FAIL)
        return str(error)
    else:
        trial.set_user_attr("run_id", report.run_id)
        study.tell(trial, _value(report.metrics, wanted))
    return ""


def _value(row: EpochRow, wanted: SearchParams) -> float:
    if wanted.metric not in row:
        raise ConfigError(
            "training.search.metric",
            f"'{wanted.metric}' is not measured by this training",
            f"it measures: {', '.join(name for name in row if name != 'epoch')}",
        )
    return float(row[wanted.metric])


def _record(study: optuna.Study, wanted: SearchParams, run: TrackedRun, folder: Path) -> None:
    """The best so far, as a point of the search's run and as files."""
    done = _finished(study)
    if not any(one.state == TrialState.COMPLETE for one in done):
        return
    best = study.best_trial
    run.log_epoch({"epoch": float(len(done)), f"best_{wanted.metric}": float(best.value or 0.0)})
    write_search_report(folder, done, wanted, best)
    lines = [f"# {wanted.metric} {best.value:.6g}, trial {best.number} of study {wanted.name}"]
    lines += [f"{name}: {_short(value)}" for name, value in best.params.items()]
    write_text(folder / "best.yaml", "\n".join(lines) + "\n")


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    cut_off = set(study.user_attrs.get(CUT_OFF, []))
    return [one for one in study.get_trials(states=states) if one.number not in cut_off]


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)

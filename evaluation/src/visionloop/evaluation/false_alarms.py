"""``alarms``: how often a package cries wolf, on footage where nothing happens and on a made day.

Each frame goes through the package and the rules of the edge agent. Frames that a rule fires on
within ten seconds of each other are one alarm: people are told once. The interval of the rate is
the exact one of a Poisson count (Garwood, 1936); with no alarm at all its upper end is the rule of
three (Hanley and Lippman-Hand, 1983): 3 / time. Little footage bounds little, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.config import load_block
from visionloop.core.entities import Frame, Prediction
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import write_json
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.evaluation.alarm_report import (
    AlarmReport,
    FootageAlarms,
    RuleThreshold,
    Verdict,
)
from visionloop.evaluation.inputs import load_inputs
from visionloop.evaluation.made_day import made_day
from visionloop.serving.edge.rules.table import Rule, Scene, make_rules
from visionloop.serving.edge_params import RuleParams
from visionloop.serving.params import ServingParams
from visionloop.serving.predictor import Predictor
from visionloop.serving.source_params import SourceParams
from visionloop.serving.sources.table import open_source

__all__ = [
    "alarms",
    "count_alarms",
    "rate_interval",
    "threshold_for",
]

DAY_S = 86_400.0
HOLD_S = 10.0
LOWEST = 0.01
SUFFIXES = (".avi", ".gif", ".mkv", ".mov", ".mp4")


@dataclass(frozen=True, eq=False)
class _Peaks:
    """Of one rule: the highest confidence of each frame, and when the frame was, seconds."""

    values: NDArray[np.float64]
    times: NDArray[np.float64]
    seconds: float


def alarms(
    *, workspace: Workspace, footage: Sequence[Path] = (), with_day: bool = True
) -> AlarmReport:
    """Count alarms of ``artifacts/package`` and write ``reports/alarms/alarms.json``.

    Parameters
    ----------
    footage : sequence of Path
        Videos, or folders of them, in which nothing happens that a rule should find.
    with_day : bool
        Also a made day: 24 hours of one normal test picture through a light cycle, lamps
        that flicker and sensor noise, ``evaluation.alarms.day_frames_per_second``.

    Raises
    ------
    ConfigError
        If there is no rule in ``serving.edge.rules``.
    DataError
        If a video is missing or cannot be read, or there is nothing to look at.
    """
    inputs = load_inputs(workspace)
    params = load_block(workspace.params, "serving", ServingParams).edge.rules
    if not params:
        raise ConfigError(
            str(workspace.params), "has no rule", "say what becomes an event: serving.edge.rules"
        )
    paths = _find_videos(footage)
    if not paths and not with_day:
        raise DataError("footage", "there is none", "name a video or a folder of videos")
    rules = make_rules(params, inputs.package.manifest)
    open_rules = make_rules([_wide_open(one) for one in params], inputs.package.manifest)
    predictor = Predictor(inputs.package, threads=inputs.params.evaluate.threads)
    target = inputs.params.alarms.target_per_camera_day
    seen = {path.name: _watch(predictor, open_rules, *_frames_of(path)) for path in paths}
    day = _watch(predictor, open_rules, *made_day(inputs)) if with_day else []
    report = AlarmReport(
        package=inputs.package.sha256,
        target_per_day=target,
        footage=[
            *(row for name, peaks in seen.items() for row in _count(name, rules, peaks, target)),
            *(_count("all footage", rules, _join(list(seen.values())), target) if seen else []),
        ],
        made_day=_count("made day", rules, day, target) if day else [],
        thresholds=_thresholds(rules, _join([*seen.values(), *([day] if day else [])]), target),
    )
    write_json(workspace.reports / "alarms" / "alarms.json", report.model_dump(mode="json"))
    return report


def count_alarms(times: NDArray[np.float64]) -> int:
    """Alarms of frames that fired at these seconds, ascending: those close together are one."""
    return 0 if not len(times) else 1 + int((np.diff(times) > HOLD_S).sum())


def rate_interval(count: int, seconds: float, level: float = 0.95) -> tuple[float, float]:
    """Alarms a camera-day: exact Poisson interval; with none, 0 and the rule of three."""
    from scipy.stats import chi2

    days = seconds / DAY_S
    if count == 0:
        return 0.0, 3.0 / days
    low = float(chi2.ppf((1 - level) / 2, 2 * count)) / 2
    high = float(chi2.ppf((1 + level) / 2, 2 * count + 2)) / 2
    return low / days, high / days


def threshold_for(
    peaks: NDArray[np.float64], times: NDArray[np.float64], seconds: float, target: float
) -> tuple[float, bool]:
    """The smallest confidence whose alarms a camera-day are at most the target, interval and all.

    Returns
    -------
    (threshold, is_shown)
        Where the footage is too short to show the target, a threshold above all that was
        seen, and False.
    """
    ordered = np.unique(peaks)
    candidates = np.concatenate([[0.0], (ordered[:-1] + ordered[1:]) / 2])
    above = min(1.0, float(ordered[-1]) * 1.02 + 1e-6) if len(ordered) else 0.0
    if rate_interval(0, seconds)[1] > target:
        return above, False
    low, high = 0, len(candidates)
    while low < high:  # alarms never grow with the threshold, up to gaps that open: found by halves
        middle = (low + high) // 2
        count = count_alarms(times[peaks >= candidates[middle]])
        if rate_interval(count, seconds)[1] <= target:
            high = middle
        else:
            low = middle + 1
    return (float(candidates[low]), True) if low < len(candidates) else (above, True)


def _wide_open(params: RuleParams) -> RuleParams:
    return params.model_copy(update={"minimum_confidence": 0.0})


def _watch(
    predictor: Predictor,
    rules: Sequence[Rule],
    frames: Iterator[Frame],
    name: str,
    per_second: float,
    total: int | None,
) -> list[_Peaks]:
    """The highest confidence that each rule sees on each frame."""
    found: list[list[float]] = [[] for _ in rules]
    for frame in track(frames, name, total=total):
        (prediction,) = predictor.predict([frame.image], minimum_confidence=LOWEST)
        for values, rule in zip(found, rules, strict=True):
            values.append(_peak(rule, frame, prediction, len(values) / per_second))
    count = len(found[0])
    if not count:
        raise DataError(name, "holds no frame")
    times = np.arange(count) / per_second
    return [_Peaks(np.array(one, np.float64), times, count / per_second) for one in found]


def _peak(rule: Rule, frame: Frame, prediction: Prediction, seconds: float) -> float:
    height, width = frame.image.shape[:2]
    seen = rule.look(Scene(prediction, width, height, seconds))
    return max((one.confidence for one in seen), default=0.0)


def _count(
    name: str, rules: Sequence[Rule], peaks: Sequence[_Peaks], target: float
) -> list[FootageAlarms]:
    rows = []
    for rule, one in zip(rules, peaks, strict=True):
        limit = rule.params.minimum_confidence
        fired = one.values >= (0.0 if limit is None else limit)
        count = count_alarms(one.times[fired])
        low, high = rate_interval(count, one.seconds)
        verdict: Verdict = (
            "pass" if high <= target else "refuse" if low > target else "not enough data"
        )
        why = f"{count} alarms in {one.seconds / 60:.1f} minutes: {low:.3g} to {high:,.3g} a day"
        if verdict == "not enough data":
            why += f", asked are {target:g}: {3 * DAY_S / target / 3600:,.0f} hours would show it"
        rows.append(
            FootageAlarms(
                name=name,
                rule=rule.params.name,
                seconds=one.seconds,
                frames=len(one.values),
                frames_fired=int(fired.sum()),
                alarms=count,
                low_per_day=low,
                high_per_day=high,
                verdict=verdict,
                why=why,
            )
        )
    return rows


def _thresholds(
    rules: Sequence[Rule], peaks: Sequence[_Peaks], target: float
) -> list[RuleThreshold]:
    found = []
    for rule, one in zip(rules, peaks, strict=True):
        value, is_shown = threshold_for(one.values, one.times, one.seconds, target)
        bound = rate_interval(0, one.seconds)[1]
        why = (
            f"at most {target:g} alarms a day over {one.seconds / 3600:.1f} hours"
            if is_shown
            else f"above all that was seen; {one.seconds / 60:.1f} minutes bound only {bound:,.3g}"
        )
        found.append(
            RuleThreshold(
                rule=rule.params.name, minimum_confidence=value, is_shown=is_shown, why=why
            )
        )
    return found


def _join(pieces: Sequence[Sequence[_Peaks]]) -> list[_Peaks]:
    """One after another, far enough apart that no alarm runs across a cut."""
    joined = []
    for rows in zip(*pieces, strict=True):
        start, times = 0.0, []
        for one in rows:
            times.append(one.times + start)
            start += one.seconds + 2 * HOLD_S
        values = np.concatenate([one.values for one in rows])
        joined.append(_Peaks(values, np.concatenate(times), sum(one.seconds for one in rows)))
    return joined


def _find_videos(footage: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in footage:
        if path.is_dir():
            found += [one for one in sorted(path.iterdir()) if one.suffix.lower() in SUFFIXES]
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(str(path), "there is no such video or folder")
    return found


def _frames_of(path: Path) -> tuple[Iterator[Frame], str, float, int | None]:
    """Frames of a video, its name, and how many it shows a second."""
    import av

    try:
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate
    except (av.FFmpegError, IndexError) as error:
        raise DataError(str(path), f"is no video: {error}") from None
    params = SourceParams(name="footage", kind="file", path=str(path.resolve()))
    source = open_source(params, site="", root=path.parent)
    return source.frames(), path.name, float(rate or 25), source.total

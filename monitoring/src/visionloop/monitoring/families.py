"""What is compared between two windows: one decision each for embeddings, light and answers.

A family is a row of ``FAMILIES``. Its p-value is the smallest of its tests after Holm's
correction, so one family alone has the false-alarm rate that was asked for; the overall
verdict applies Holm once more over the families.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from visionloop.core.image_statistics import STATISTIC_NAMES
from visionloop.core.plugins import resolve
from visionloop.monitoring.mmd import rff_mmd
from visionloop.monitoring.params import DriftParams
from visionloop.monitoring.two_sample import (
    ColumnTest,
    compare_class_mix,
    compare_column,
    holm,
)
from visionloop.monitoring.windows import (
    PROBABILITY_PREFIX,
    Window,
    common_embeddings,
    common_package,
)

__all__ = [
    "FAMILIES",
    "Decision",
    "FamilyDecision",
    "compare_embeddings",
    "compare_image_statistics",
    "compare_predictions",
    "compare_windows",
]

FAMILIES: dict[str, str] = {
    "embeddings": "visionloop.monitoring.families:compare_embeddings",
    "image_statistics": "visionloop.monitoring.families:compare_image_statistics",
    "predictions": "visionloop.monitoring.families:compare_predictions",
}
"""Family -> "module:function" of the form ``compare(reference, current, params, rng)``."""


@dataclass(frozen=True)
class FamilyDecision:
    """What one family says.

    Attributes
    ----------
    name : str
    status : str
        ``drift``, ``steady``, ``insufficient data`` (too few frames, a missing or
        constant column) or ``not comparable`` (different packages).
    p_value : float or None
        Smallest p-value of the tests after Holm's correction within the family.
    adjusted_p_value : float or None
        After Holm's correction over the families.
    note : str
        Why there is no verdict.
    tests : tuple of ColumnTest
    """

    name: str
    status: str = "insufficient data"
    p_value: float | None = None
    adjusted_p_value: float | None = None
    note: str = ""
    tests: tuple[ColumnTest, ...] = field(default=())


@dataclass(frozen=True)
class Decision:
    """What all families say together.

    Attributes
    ----------
    verdict : str
        ``drift``, ``steady`` or ``insufficient data``.
    p_value : float or None
        Smallest p-value of the families after Holm's correction.
    alpha : float
        False-alarm rate of the whole decision.
    """

    verdict: str
    p_value: float | None
    alpha: float
    families: tuple[FamilyDecision, ...]

    @property
    def is_drift(self) -> bool:
        """Whether drift was found."""
        return self.verdict == "drift"


def compare_windows(
    reference: Window, current: Window, *, params: DriftParams, alpha: float, seed: int = 0
) -> Decision:
    """Compare two windows.

    Parameters
    ----------
    reference, current : Window
    params : DriftParams
    alpha : float
        Largest false-alarm rate of the whole decision.
    seed : int
        Of permutations and random features.
    """
    reference, current = reference.thinned(params.max_frames), current.thinned(params.max_frames)
    decided = [
        _decide(name, reference, current, params=params, seed=seed) for name in params.families
    ]
    known = [family.p_value for family in decided if family.p_value is not None]
    adjusted = iter(holm(known))
    families = []
    for family in decided:
        if family.p_value is not None:
            value = next(adjusted)
            status = "drift" if value < alpha else "steady"
            family = replace(family, adjusted_p_value=value, status=status)
        families.append(family)
    smallest = min(holm(known), default=None)
    verdict = "insufficient data" if smallest is None else "steady"
    if smallest is not None and smallest < alpha:
        verdict = "drift"
    return Decision(verdict, smallest, alpha, tuple(families))


def compare_embeddings(
    reference: Window, current: Window, params: DriftParams, rng: np.random.Generator
) -> FamilyDecision:
    """Random-feature MMD of the feature vectors, if one package made those of both windows."""
    name = "embeddings"
    lacking = [one.name for one in (reference, current) if not one.embedding_packages()]
    if lacking:
        return FamilyDecision(name, note=f"no embeddings in window {' and '.join(lacking)}")
    pair = common_embeddings(reference, current)
    if pair is None:
        note = "the embeddings of the windows were made by different packages"
        return FamilyDecision(name, "not comparable", note=note)
    first, second = pair
    if note := _too_few(len(first.rows), len(second.rows), params.min_frames, "embeddings"):
        return FamilyDecision(name, note=note)
    if np.ptp(np.concatenate([first.vectors, second.vectors]), axis=0).max() == 0:
        return FamilyDecision(name, note="the embeddings are constant in both windows")
    result = rff_mmd(
        first.vectors,
        second.vectors,
        rng=rng,
        permutations=params.permutations,
        features=params.random_features,
    )
    test = ColumnTest("embedding", "random-feature MMD", result.p_value, result.statistic)
    return FamilyDecision(name, p_value=result.p_value, tests=(test,))


def compare_image_statistics(
    reference: Window, current: Window, params: DriftParams, rng: np.random.Generator
) -> FamilyDecision:
    """Kolmogorov-Smirnov test of luminance, contrast, blur and noise."""
    reference, current = reference.distinct(), current.distinct()
    tests = [_column_test(name, reference, current, params) for name in STATISTIC_NAMES]
    return _from_tests("image_statistics", tests)


def compare_predictions(
    reference: Window, current: Window, params: DriftParams, rng: np.random.Generator
) -> FamilyDecision:
    """The model's answers: probabilities or boxes and their confidences, and the class mix.

    Classification compares the probability of each class (of two classes the second
    says it all), detection the boxes a frame and the mean confidence of a frame's boxes:
    frames are independent, boxes of one frame are not.
    """
    package = common_package(reference.packages(), current.packages())
    if not package:
        note = "the windows were answered by different packages"
        return FamilyDecision("predictions", "not comparable", note=note)
    reference, current = reference.answered_by(package), current.answered_by(package)
    if note := _too_few(len(reference), len(current), params.min_frames, "frames of one package"):
        return FamilyDecision("predictions", note=note)
    names = reference.columns(PROBABILITY_PREFIX)
    names = names[1:] if len(names) == 2 else names
    names = names or ["boxes", "confidence"]
    tests = [_column_test(name, reference, current, params) for name in names]
    first, classes = reference.class_counts()
    second, others = current.class_counts()
    if classes == others:
        mix = compare_class_mix(first, second, rng=rng, permutations=params.permutations)
    else:
        mix = ColumnTest("class mix", note="the windows were made for different classes")
    return _from_tests("predictions", [*tests, mix])


def _decide(
    name: str, reference: Window, current: Window, *, params: DriftParams, seed: int
) -> FamilyDecision:
    compare = resolve(FAMILIES, name, kind="family of drift detectors", extra="monitoring")
    if note := _too_few(len(reference), len(current), params.min_frames, "frames"):
        return FamilyDecision(name, note=note)
    # Each family has its own stream, so that leaving one out does not change the others.
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    decided: FamilyDecision = compare(reference, current, params, rng)
    return decided


def _from_tests(name: str, tests: Sequence[ColumnTest]) -> FamilyDecision:
    """A family's decision; tests that could not be made take no part in the correction."""
    known = [test.p_value for test in tests if test.p_value is not None]
    if not known:
        reasons = "; ".join(f"{test.name}: {test.note}" for test in tests)
        return FamilyDecision(name, note=reasons, tests=tuple(tests))
    return FamilyDecision(name, p_value=min(holm(known)), tests=tuple(tests))


def _column_test(name: str, reference: Window, current: Window, params: DriftParams) -> ColumnTest:
    first, second = reference.numbers(name), current.numbers(name)
    pairs = ((reference, first), (current, second))
    lacking = [window.name for window, found in pairs if found is None]
    if first is None or second is None:
        return ColumnTest(name, note=f"missing in window {' and '.join(lacking)}")
    return compare_column(name, first, second, min_values=params.min_frames)


def _too_few(first: int, second: int, needed: int, what: str) -> str:
    if min(first, second) >= needed:
        return ""
    return f"{first} and {second} {what}, {needed} are needed"

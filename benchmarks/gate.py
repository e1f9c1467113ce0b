"""The gate on 40 planted models, and whether intervals hold what they say.

Ten good models and thirty bad ones: fragile in fog, unfair to one site, miscalibrated, parity
broken, slow, shuffled annotations; five of each. Their answers on 600 samples of three sites are
made; everything else is the real thing: a dataset version, a signed package each, the stage's own
measuring of answers and conditions, a champion in MLflow, ``gate`` with its signature. Models share
the difficulty of a sample with the champion, as real ones do. Bad ones are refused for the right
reason if the checks that refuse are those of their fault and no others.

Coverage: 200 test sets are drawn from a population whose value is known, in groups of alike
samples; the share of 95 % intervals that hold it.

    python benchmarks/gate.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gate_coverage import coverage_rows
from gate_models import SITES, make_package, make_workspace
from report import make_row, save_results

from visionloop.core.entities import ClassProbabilities, Prediction
from visionloop.core.files import write_json
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step, track
from visionloop.core.workspace import Workspace
from visionloop.evaluation.answers import AnsweredSamples, save_answers, truth_of
from visionloop.evaluation.evaluate import measure_answers
from visionloop.evaluation.gate import gate
from visionloop.evaluation.gate_report import GateReport
from visionloop.evaluation.inputs import EvaluationInputs, load_inputs
from visionloop.evaluation.latency import summarise_latency
from visionloop.evaluation.measurements import save_measurements
from visionloop.evaluation.promotion import promote
from visionloop.evaluation.worst_case import CLEAN, conditions_of, measure_condition, summarise

CLASSES = ("functional", "defective")
STRENGTH = 2.2
"""Mean logit of the true class; noise of 1.4 makes about 94 of 100 answers right."""
NOISE = 1.4
SHARED = 0.8
"""Share of the noise that is the sample's own, the same for every model."""


@dataclass(frozen=True)
class Planted:
    """A model: what is wrong with it, and which checks may and must refuse it.

    Attributes
    ----------
    kind : str
    must, may : set of str
        Names of checks; a good model has neither.
    weak_site, sharpness, in_fog, is_shuffled
        What makes its answers; sharpness multiplies logits.
    parity, milliseconds : float
    """

    kind: str
    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    weak_site: str = ""
    sharpness: float = 1.0
    in_fog: float = 1.0
    is_shuffled: bool = False
    parity: float = 1e-5
    milliseconds: float = 20.0


KINDS = (
    *[Planted("good")] * 10,
    *[
        Planted(
            "fragile in fog",
            frozenset({"worst case, worst"}),
            frozenset({"worst case, mean"}),
            in_fog=0.1,
        )
    ]
    * 5,
    *[
        Planted(
            "unfair to one site",
            frozenset({"site=harbour"}),
            frozenset({"champion, site=harbour"}),
            weak_site="harbour",
        )
    ]
    * 5,
    *[Planted("miscalibrated", frozenset({"calibration"}), sharpness=0.25)] * 5,
    *[Planted("parity broken", frozenset({"export parity"}), parity=0.2)] * 5,
    *[
        Planted(
            "slow",
            frozenset({"latency"}),
            frozenset({"cameras per device"}),
            milliseconds=180.0,
        )
    ]
    * 5,
    *[
        Planted(
            "shuffled annotations",
            frozenset({"balanced_accuracy"}),
            frozenset(
                {"recall of defective", "calibration", "worst case, mean", "worst case, worst"}
                | {f"{start}site={site}" for site in SITES for start in ("", "champion, ")}
            ),
            is_shuffled=True,
        )
    ]
    * 5,
)


def main() -> None:
    """Judge the models, measure the coverage, write ``results/gate.json``."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    set_quiet_environment()
    with tempfile.TemporaryDirectory() as folder:
        rows = judge_all(Path(folder))
    save_results("gate", rows + coverage_rows())


def judge_all(folder: Path) -> list[dict[str, Any]]:
    """Rows of refused and passed models."""
    from visionloop.serving.signing import new_key_pair

    private, public = new_key_pair(folder / "keys")
    os.environ |= {"VISIONLOOP_SIGNING_KEY": str(private), "VISIONLOOP_TRUSTED_KEYS": str(public)}
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    workspace = make_workspace(folder / "project")
    judge(workspace, Planted("champion"), 1000)
    promote(workspace=workspace)
    outcomes: dict[str, list[bool]] = {}
    for number, planted in enumerate(track(KINDS, "planted models", total=len(KINDS))):
        report = judge(workspace, planted, number)
        refused = {check.name for check in report.checks if check.refuses}
        is_right = planted.must <= refused <= planted.must | planted.may
        if not is_right:
            say_step(f"{planted.kind} {number}: {sorted(refused)}")
        outcomes.setdefault(planted.kind, []).append(is_right)
    return [
        make_row(
            f"{kind}: {'passed' if kind == 'good' else 'refused for the right reason alone'}, "
            f"share of {len(right)} models",
            float(np.mean(right)),
            target=1.0,
        )
        for kind, right in outcomes.items()
    ]


def judge(workspace: Workspace, planted: Planted, number: int) -> GateReport:
    """Ship a planted model's package, measure its answers, ask the gate."""
    package = make_package(workspace, number)
    inputs = load_inputs(workspace)
    generator = np.random.default_rng([number, 7])
    clean = make_answers(inputs, planted, generator)
    latency = summarise_latency(
        (planted.milliseconds * generator.lognormal(0, 0.05, 200)).tolist(), 1, "made"
    )
    evaluation = measure_answers(workspace, inputs, clean, latency)
    folder = workspace.reports / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    save_answers(folder, clean, [Prediction(one) for one in clean.answers], package)
    save_measurements(folder, evaluation)
    measured = [
        measure_condition(
            inputs,
            make_answers(inputs, planted, np.random.default_rng([number, 8]), condition, severity),
            condition,
            severity,
        )
        for condition, severity in [CLEAN, *conditions_of(inputs)]
    ]
    (workspace.reports / "robustness").mkdir(exist_ok=True)
    save_measurements(
        workspace.reports / "robustness", summarise(inputs, len(clean.samples), measured)
    )
    parity = {"package": package, "samples": 32, "max_difference": planted.parity,
              "minimum_iou": 1.0, "agreement": 1.0}  # fmt: skip
    write_json(workspace.reports / "export" / "parity.json", parity)
    return gate(workspace=workspace)


def make_answers(
    inputs: EvaluationInputs,
    planted: Planted,
    generator: np.random.Generator,
    condition: str = "clean",
    severity: int = 0,
) -> AnsweredSamples:
    """What the model says: a logit by truth, difficulty of the sample, condition and fault."""
    samples = inputs.version.split("test")
    truths = [truth_of(inputs.version, str(one)) for one in samples["sample_id"]]
    truth = np.array([one.class_id[0] for one in truths])
    own = np.random.default_rng(3).normal(size=len(truth))
    noise = np.sqrt(SHARED) * own + np.sqrt(1 - SHARED) * generator.normal(size=len(truth))
    strength = np.full(len(truth), STRENGTH)
    if severity:
        strength *= planted.in_fog if condition == "fog" else 1 - 0.06 * severity
    if planted.weak_site:
        strength[np.asarray(samples["site"] == planted.weak_site)] *= 0.35
    said = generator.permutation(truth) if planted.is_shuffled else truth
    logit = (2 * said - 1) * strength + NOISE * noise
    # Means m and -m with noise s are told apart by the logit 2 m x / s²: that is calibrated.
    odds = planted.sharpness * 2 * strength * logit / NOISE**2
    probability = 1 / (1 + np.exp(-odds))
    answers = [ClassProbabilities(np.array([1 - one, one], np.float32)) for one in probability]
    return AnsweredSamples(samples, truths, answers, "classification", list(CLASSES), {})


if __name__ == "__main__":
    main()

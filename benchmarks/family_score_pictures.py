"""How families tell classes apart on real data: ``docs/pictures/family-classification.png``.

Charts of our own, no picture of a data set: what the exported package says of held-out pictures,
by what they are. The trainings are those of ``export_models.py``: EfficientNet-Lite0 from ImageNet,
ConvNeXt and ViT from random weights (theirs cannot be had offline), a head on each, solar cells.

    python benchmarks/family_score_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from export_models import prepare_model, use_throwaway_keys
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from visionloop.core.entities import ClassProbabilities
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import load_version
from visionloop.evaluation.answers import answer_samples
from visionloop.evaluation.plots import ACCENT, INK, WARN, finish_axes, save_figure
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
FAMILIES = {
    "efficientnet": "EfficientNet-Lite0 (ImageNet), 224 px",
    "convnext": "ConvNeXt-Atto (random weights), 96 px",
    "vit": "ViT-Tiny (random weights), 96 px",
}
BINS = np.linspace(0, 1, 21)


def main() -> None:
    """Draw one panel a family."""
    set_quiet_environment()
    use_throwaway_keys()
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(FAMILIES), sharey=True)
    for axes, (family, title) in zip(panels, FAMILIES.items(), strict=True):
        said, truth, classes = answers_of(prepare_model(family))
        draw(axes, said, truth, classes)
        reached = np.mean([(said[truth == one].argmax(axis=1) == one).mean() for one in (0, 1)])
        axes.set_title(f"{title}\nbalanced accuracy {reached:.2f} of {len(truth)} cells",
                       loc="left", color=INK, fontsize=9.5)  # fmt: skip
        print(f"{family}: balanced accuracy {reached:.3f} on {len(truth)} pictures")
    panels[0].set_ylabel("share of the cells")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=2, frameon=False)
    print(save_figure(figure, PICTURES / "family-classification.png"))


def answers_of(
    workspace: Workspace,
) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[str, ...]]:
    """Probabilities (N, C) of the test split by the package, true class numbers, class names."""
    version = load_version(workspace.version("v1"), workspace.images)
    package = load_package(workspace.package)
    samples = version.split("test")
    found, _ = answer_samples(
        Predictor(package, threads=1), version, samples,
        minimum_confidence=0.0, description="held-out pictures",
    )  # fmt: skip
    rows = [one.answer.probabilities for one in found if isinstance(one.answer, ClassProbabilities)]
    return np.array(rows), version.class_ids(samples["sample_id"]), package.manifest.classes


def draw(
    axes: Axes, said: NDArray[np.float32], truth: NDArray[np.int64], classes: tuple[str, ...]
) -> None:
    """How probable the second class is, by what the picture is."""
    for number, colour in enumerate((ACCENT, WARN)):
        own = said[truth == number, 1]
        weights = np.full(len(own), 1 / max(1, len(own)))
        axes.hist(own, BINS, weights=weights, color=colour, alpha=0.55, label=classes[number])
    axes.axvline(0.5, color=INK, lw=1, ls=":")
    finish_axes(axes, "", f"probability of {classes[1]}", "")


if __name__ == "__main__":
    main()

"""``flaws``: networks that tell made flaws from normal pictures, place by place.

Distances from what is normal, in features of a network trained on other pictures, say how unusual
a place is, not whether it is a flaw. Here the last stages of that network learn it, from flaws made
on the normal train pictures (``made_flaws``; CutPaste, DRAEM, NSA). The first stages stay as they
are: most of the time would go into them, and trained they gave no more
(``benchmarks/families_tiles.py``).

Five networks learn, each from four fifths of the groups; the answer is their mean. So every normal
train picture is also judged by a network that never saw its group, and has a vote on the limit
(cross-conformal, see ``false_alarm_limit``).
"""

from __future__ import annotations

import torch

from visionloop.training.checkpoint import Checkpoint
from visionloop.training.families.anomaly import (
    AnomalyFamily,
    AnomalyForExport,
    finish,
    refuse_heads,
)
from visionloop.training.families.flaw_learner import FlawLearner
from visionloop.training.families.flaw_network import FlawNetwork, FlawNetworks
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.families.timm_networks import build_network, make_network
from visionloop.training.loop import run_loop

__all__ = ["Flaws"]

NETWORKS = 5


class Flaws(AnomalyFamily):
    """Networks that know made flaws; see :class:`visionloop.training.families.table.Family`."""

    def train(self, job: TrainingJob) -> TrainedModel:
        """Learn made flaws on the normal train pictures."""
        refuse_heads(job)
        torch.manual_seed(job.project.seed)
        size, layers = job.params.image_size, list(job.params.anomaly.layers)
        networks = FlawNetworks([
            FlawNetwork(make_network(job.weights, classes=1, image_size=size), layers=layers)
            for _ in range(NETWORKS)
        ])  # fmt: skip
        networks.keep_first_stages()
        spec = job.weights.picture_input(size)
        learner = FlawLearner(networks, job, spec)
        learner.draw_sheet()
        row = run_loop(learner, job)
        architecture = {
            "timm": job.weights.row.architecture,
            "classes": 1,
            "image_size": size,
            "layers": layers,
        }
        return finish(job, networks.eval(), spec, architecture, row, learner.judge())

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """Images to (probabilities, embedding, heatmap)."""
        facts = checkpoint.facts.architecture
        networks = [
            FlawNetwork(build_network(facts), layers=facts["layers"]) for _ in range(NETWORKS)
        ]
        whole = AnomalyForExport(FlawNetworks(networks), top_share=facts["top_share"], limit=1.0)
        whole.load_state_dict(checkpoint.load_tensors())
        return whole.eval()

"""How much each member of an ensemble has to say, and on what scale."""

import math

import pytest
import torch

from visionloop.training.export import export
from visionloop.training.families import ensemble
from visionloop.training.families.autoencoder import Redrawing
from visionloop.training.families.ensemble import Together
from visionloop.training.train import train


class Brightness(torch.nn.Module):
    """The mean of the channels, at half the size."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image.mean(dim=1)[:, ::2, ::2], image.mean(dim=(2, 3))


def soft(value: float) -> float:
    return math.log1p(math.exp(value))


def test_members_count_by_how_far_they_lie_above_what_is_ordinary_for_them() -> None:
    together = Together([Brightness(), Brightness()], mean=[0.0] * 3, std=[255.0] * 3)
    together.ordinary.copy_(torch.tensor([2.0, 10.0]))
    together.unit.copy_(torch.tensor([0.5, 4.0]))
    together.weight.copy_(torch.tensor([0.75, 0.25]))
    image = torch.full((1, 3, 4, 4), 3.0)
    image[..., :2] = 14.0
    places, _ = together(image)
    assert places.shape == (1, 2, 2)
    expected = [
        0.75 * soft(12 / 0.5) + 0.25 * soft(4 / 4),
        0.75 * soft(1 / 0.5) + 0.25 * soft(-7 / 4),
    ]
    assert places[0, 0].tolist() == pytest.approx(expected)


def test_a_member_that_cannot_tell_made_flaws_has_no_say(
    surfaces, set_training, monkeypatch, capsys
) -> None:
    learn = ensemble.redraw_normal

    def redraw_alike(job, spec):
        found = learn(job, spec)
        monkeypatch.setattr(Redrawing, "forward", same_for_all)
        return found

    def same_for_all(self, image):
        return torch.ones(len(image), 24, 24), image.mean(dim=(2, 3))

    monkeypatch.setattr(ensemble, "redraw_normal", redraw_alike)
    set_training(surfaces, family="ensemble", anomaly={"members": ["patch", "autoencoder"]})
    report = train(workspace=surfaces)
    assert report.metrics["weight_patch"] == pytest.approx(1.0)
    assert report.metrics["weight_autoencoder"] == 0.0
    assert "patch tells made flaws with AUROC" in capsys.readouterr().err
    assert report.metrics["val_auroc"] == 1.0
    assert export(workspace=surfaces).parity.max_difference < 1e-3

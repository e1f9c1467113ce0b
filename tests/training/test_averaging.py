"""The moving average of the weights: what it is, and that it survives an interruption."""

import pytest
import torch

from visionloop.training.averaging import WeightAverage
from visionloop.training.checkpoint import load_checkpoint
from visionloop.training.train import train


def step(network: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        for one in network.parameters():
            one.fill_(value)


def test_it_is_the_moving_average_and_gives_the_weights_back() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average, expected = WeightAverage(network, 0.9), 0.0
    for count, value in enumerate((1.0, 2.0, 4.0, 8.0)):
        step(network, value)
        network[1].running_mean.fill_(value)
        network[1].num_batches_tracked.fill_(count)
        average.update()
        kept = min(0.9, (1 + count) / (10 + count)) if count else 0.0
        expected = kept * expected + (1 - kept) * value
    with average.in_place():
        assert network[0].weight[0, 0].item() == pytest.approx(expected)
        assert network[1].running_mean[0].item() == pytest.approx(expected)
        assert network[1].num_batches_tracked.item() == 3
    assert network[0].weight[0, 0].item() == 8.0


def test_without_a_decay_nothing_is_averaged() -> None:
    network = torch.nn.Linear(1, 1)
    average = WeightAverage(network, 0.0)
    step(network, 3.0)
    average.update()
    with average.in_place():
        assert network.weight.item() == 3.0
    assert average.state() == {}


def test_interrupted_and_resumed_gives_the_same_average(cells, set_training, fail_at) -> None:
    set_training(cells, epochs=2, average_decay=0.9)
    train(workspace=cells)
    whole = load_checkpoint(cells.checkpoint).facts.model_sha256
    fail_at("training.epoch:interrupt:1")
    with pytest.raises(KeyboardInterrupt):
        train(workspace=cells)
    fail_at("")
    assert train(workspace=cells).resumed_from == 1
    assert load_checkpoint(cells.checkpoint).facts.model_sha256 == whole
    set_training(cells, average_decay=0.0)
    train(workspace=cells)
    assert load_checkpoint(cells.checkpoint).facts.model_sha256 != whole

"""Statistics of batch normalisation, measured again on pictures as they are served."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from visionloop.serving.manifest import ImageInput
from visionloop.serving.preprocess import make_batch
from visionloop.training.batch_statistics import measure_again

SPEC = ImageInput(
    width=8, height=8, resize="letterbox", mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0]
)


def write_pictures(folder, count):
    paths = []
    for number in range(count):
        level = np.full((8, 8, 3), 10 * number, np.uint8)
        paths.append(folder / f"{number}.png")
        cv2.imwrite(str(paths[-1]), level)
    return paths


def test_they_are_those_of_the_served_pictures_and_nothing_else_changes(tmp_path):
    paths = write_pictures(tmp_path, 20)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).train()
    network[1].running_mean.fill_(9.0)
    network[0].eval()
    weights = network[0].weight.clone()
    measure_again(network, paths, SPEC, seed=0)
    every = torch.from_numpy(make_batch([np.full((8, 8, 3), 10 * n, np.uint8) for n in range(20)],
                                        SPEC)[0])  # fmt: skip
    expected = network[0](every).mean(dim=(0, 2, 3))
    assert torch.allclose(network[1].running_mean, expected, atol=1e-5)
    assert torch.equal(network[0].weight, weights)
    assert (network[0].training, network[1].training, network[1].momentum) == (False, True, 0.1)


def test_the_same_seed_draws_the_same_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr("visionloop.training.batch_statistics.PICTURES", 5)
    paths = write_pictures(tmp_path, 20)
    means = []
    for seed in (1, 1, 2):
        network = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
        measure_again(network, paths, SPEC, seed=seed)
        means.append(network[0].running_mean.clone())
    assert torch.equal(means[0], means[1]) and not torch.equal(means[0], means[2])


def test_without_batch_normalisation_nothing_is_read():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.GroupNorm(2, 4))
    measure_again(network, ["nowhere.png", "neither.png"], SPEC, seed=0)

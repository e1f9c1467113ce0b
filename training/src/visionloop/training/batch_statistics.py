"""Statistics of batch normalisation, measured again for the weights that are judged and kept.

While a network learns they are a moving average over augmented pictures and over weights that have
changed since; averaged weights never had them at all. Measured again on train pictures as they will
be served, boxes come out at their true size (Wu and Johnson, 2021, arXiv 2105.07576, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput
from visionloop.serving.preprocess import make_batch

__all__ = ["measure_again"]

PICTURES, BATCH = 256, 16


def measure_again(
    network: torch.nn.Module, paths: Sequence[Path], spec: ImageInput, *, seed: int
) -> None:
    """Replace the running means and variances; a network without them stays as it is.

    Parameters
    ----------
    network : Module
        float32 (B, 3, H, W) to anything; left in the mode (train or eval) it came in.
    paths : sequence of Path
        Train pictures; of more than 256 as many are drawn, the same ones for the same seed.
    spec : ImageInput
        How pictures are served.
    seed : int
    """
    norms = [one for one in network.modules() if isinstance(one, _BatchNorm)]
    norms = [one for one in norms if one.track_running_stats]
    if not norms or len(paths) < 2:
        return
    modes = {one: one.training for one in network.modules()}
    momenta = [one.momentum for one in norms]
    drawn = np.random.default_rng(seed).permutation(len(paths))[:PICTURES]
    network.eval()
    for one in norms:
        one.reset_running_stats()
        one.momentum = None  # a plain mean over the batches
        one.train()
    device = next(network.parameters()).device
    with torch.no_grad():
        for rows in np.array_split(drawn, max(1, len(drawn) // BATCH)):
            batch, _ = make_batch([read_image(paths[row]) for row in rows], spec)
            network(torch.from_numpy(batch).to(device))
    for one, momentum in zip(norms, momenta, strict=True):
        one.momentum = momentum
    for part, was_training in modes.items():
        part.training = was_training

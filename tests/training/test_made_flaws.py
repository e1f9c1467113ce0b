"""Made flaws: they change pixels where the mask says, and the networks learn only their share."""

import numpy as np
import pytest
import timm
import torch

from visionloop.training.families.false_alarm_limit import deal_folds
from visionloop.training.families.flaw_learner import flaw_loss
from visionloop.training.families.flaw_network import FlawNetwork, FlawNetworks
from visionloop.training.families.made_flaws import FLAWS, make_flaw, vary

SIDE = 96


def surface(seed: int) -> np.ndarray:
    """A grey texture, float32 (SIDE, SIDE, 3)."""
    grey = np.random.default_rng(seed).normal(120, 20, (SIDE, SIDE, 1)).clip(0, 255)
    return np.repeat(grey, 3, axis=2).astype(np.float32)


@pytest.mark.parametrize("kind", sorted(FLAWS))
def test_a_flaw_is_where_its_mask_says(kind) -> None:
    image, other, seen = surface(0), surface(1), 0
    for seed in range(30):
        changed, mask = FLAWS[kind](image, other, np.random.default_rng(seed))
        assert changed.shape == image.shape and changed.dtype == np.float32
        assert mask.shape == (SIDE, SIDE) and mask.mean() < 0.85
        difference = np.abs(changed - image).max(axis=2)
        seen += int(mask.sum() > 3 and difference[mask].mean() > 4)
        near = mask
        for axis in (0, 1):  # soft outlines reach a few pixels further
            near = np.any([np.roll(near, step, axis) for step in range(-6, 7)], axis=0)
        assert difference[~near].max(initial=0) < 1
    assert seen >= 20


def test_the_same_seed_makes_the_same_flaw_within_the_range_of_grey() -> None:
    image, other = surface(0), surface(1)
    for seed in range(20):
        first, mask = make_flaw(image, other, np.random.default_rng(seed))
        again, _ = make_flaw(image, other, np.random.default_rng(seed))
        assert np.array_equal(first, again) and mask.dtype == np.bool_
        assert first.min() >= 0 and first.max() <= 255
    np.testing.assert_array_equal(image, surface(0))  # the picture given is not changed


def test_what_varies_between_normal_pictures_has_no_edge() -> None:
    slope = np.linspace(60, 160, SIDE, dtype=np.float32)
    image = np.repeat(np.tile(slope, (SIDE, 1))[..., None], 3, axis=2)
    means = []
    for seed in range(30):
        varied = vary(image, np.random.default_rng(seed))
        assert varied.shape == image.shape and varied.dtype == np.float32
        assert varied.min() >= 0 and varied.max() <= 255
        blocks = varied.reshape(8, SIDE // 8, 8, SIDE // 8, 3).mean(axis=(1, 3, 4))
        steps = [np.abs(np.diff(blocks, axis=axis)).max() for axis in (0, 1)]
        assert max(steps) < 45
        means.append(varied.mean())
    assert np.ptp(means) > 40
    np.testing.assert_array_equal(image[:, :, 0], np.tile(slope, (SIDE, 1)))


def test_the_loss_falls_where_the_logits_are_right() -> None:
    masks = torch.zeros(2, 32, 32)
    masks[0, 8:16, 8:16] = 1
    right = torch.full((2, 8, 8), -6.0)
    right[0, 2:4, 2:4] = 6
    best = float(flaw_loss(right, masks))
    assert best < 0.05
    assert float(flaw_loss(-right, masks)) > 5
    assert float(flaw_loss(torch.zeros(2, 8, 8), masks)) > best


def test_first_stages_and_batch_statistics_stay() -> None:
    network = FlawNetwork(timm.create_model("tf_efficientnet_lite0"), layers=[1, 2, 3])
    network.keep_first_stages()
    trained = {name for name, one in network.named_parameters() if one.requires_grad}
    assert "network.conv_stem.weight" not in trained
    assert not any(name.startswith("network.blocks.2.") for name in trained)
    assert any(name.startswith("network.blocks.3.") for name in trained)
    assert "tell.weight" in trained
    before = network.network.bn1.running_mean.clone()
    network.train()
    network(torch.rand(2, 3, 64, 64))
    assert torch.equal(network.network.bn1.running_mean, before)


def test_the_map_is_the_root_of_the_odds_of_all_networks() -> None:
    torch.manual_seed(0)
    make = timm.create_model
    both = FlawNetworks(
        [FlawNetwork(make("tf_efficientnet_lite0"), layers=[1, 2, 3]) for _ in range(2)]
    ).eval()
    image = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        raw, embedding = both(image)
        first, second = both(image, [torch.tensor([0, 2]), torch.tensor([1])])
        alone = [one(image)[0] for one in both.networks]
    assert raw.shape == (3, 8, 8) and embedding.shape[0] == 3
    torch.testing.assert_close(4 * raw.log(), (alone[0] + alone[1]) / 2, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(first, alone[0][[0, 2]], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(second, alone[1][[1]], rtol=1e-3, atol=1e-3)


def test_folds_never_tear_a_group_apart() -> None:
    groups = np.repeat([f"view{one}" for one in range(9)], 4)
    folds = deal_folds(groups, 2, np.random.default_rng(0))
    assert set(folds) == {0, 1}
    assert all(len(set(folds[groups == one])) == 1 for one in set(groups))
    assert set(deal_folds(np.array(["a", "a"]), 2, np.random.default_rng(0))) == {0}

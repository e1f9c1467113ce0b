"""Anomaly families: learned from normal pictures alone, a limit that keeps its promise, a map."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core.errors import ConfigError, DataError
from visionloop.data.versions.version import load_version, save_version
from visionloop.serving.images import read_image
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.training.checkpoint import load_checkpoint
from visionloop.training.export import export
from visionloop.training.families.anomaly import area_under_roc
from visionloop.training.families.autoencoder import structural_similarity
from visionloop.training.families.false_alarm_limit import HeldOut, choose_limit
from visionloop.training.families.patch import choose_coreset
from visionloop.training.train import train


def test_a_spot_is_found_where_it_is(surfaces, capsys) -> None:
    report = train(workspace=surfaces)
    assert "anomalous train pictures are left out" in capsys.readouterr().err
    assert report.metrics["val_auroc"] == 1.0
    assert report.metrics["asked_false_alarm_rate"] == 0.1
    assert (surfaces.reports / "training" / "anomaly.png").read_bytes().startswith(b"\x89PNG")
    exported = export(workspace=surfaces)
    assert exported.parity.max_difference < 1e-3
    package = load_package(surfaces.package)
    assert package.manifest.vision_task == "anomaly"
    assert package.manifest.thresholds == {"defective": 0.5}
    version = load_version(surfaces.version("v1"), surfaces.images)
    bad = version.class_ids(version.samples["sample_id"]) == 1
    images = [read_image(version.image_path(one)) for one in version.samples["sample_id"]]
    found = Predictor(package, threads=1).predict(images)
    confidence = np.array([one.answer.probabilities[1] for one in found])
    assert confidence[bad].min() > 0.5 and confidence[bad].min() > confidence[~bad].max()
    heat = found[int(np.flatnonzero(bad)[0])].heatmap
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert abs((column + 0.5) / heat.shape[1] * 96 - 60) < 14
    assert abs((row + 0.5) / heat.shape[0] * 96 - 30) < 14


def test_gaussians_find_the_spot_and_every_group_votes(surfaces, set_training) -> None:
    set_training(surfaces, family="gaussian")
    report = train(workspace=surfaces)
    version = load_version(surfaces.version("v1"), surfaces.images)
    rows = version.samples
    normal = version.class_ids(rows["sample_id"].tolist()) == 0
    judged = rows[normal & rows["split"].isin(["train", "val"])]
    assert report.metrics["held_out_normal"] == len(judged)
    assert report.metrics["held_out_groups"] == judged["group"].nunique()
    assert report.metrics["val_auroc"] == 1.0
    assert export(workspace=surfaces).parity.max_difference < 1e-3
    bad = version.class_ids(rows["sample_id"]) == 1
    images = [read_image(version.image_path(one)) for one in rows["sample_id"]]
    found = Predictor(load_package(surfaces.package), threads=1).predict(images)
    confidence = np.array([one.answer.probabilities[1] for one in found])
    assert confidence[bad].min() > 0.5 and confidence[bad].min() > confidence[~bad].max()
    heat = found[int(np.flatnonzero(bad)[0])].heatmap
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert abs((column + 0.5) / heat.shape[1] * 96 - 60) < 14
    assert abs((row + 0.5) / heat.shape[0] * 96 - 30) < 14


def test_networks_that_know_made_flaws_find_the_spot(surfaces, set_training) -> None:
    set_training(surfaces, family="flaws", image_passes=240, batch_size=8, learning_rate=0.002,
                 augment={"strength": "none"})  # fmt: skip
    report = train(workspace=surfaces)
    version = load_version(surfaces.version("v1"), surfaces.images)
    rows = version.samples
    normal = version.class_ids(rows["sample_id"].tolist()) == 0
    judged = rows[normal & rows["split"].isin(["train", "val"])]
    assert report.metrics["held_out_normal"] == len(judged)
    assert report.metrics["val_auroc"] == 1.0
    assert (surfaces.reports / "training" / "augmentation.png").is_file()
    assert export(workspace=surfaces).parity.max_difference < 1e-3
    bad = version.class_ids(rows["sample_id"]) == 1
    one = str(rows["sample_id"][int(np.flatnonzero(bad)[0])])
    package = load_package(surfaces.package)
    (found,) = Predictor(package, threads=1).predict([read_image(version.image_path(one))])
    row, column = np.unravel_index(found.heatmap.argmax(), found.heatmap.shape)
    assert abs((column + 0.5) / found.heatmap.shape[1] * 96 - 60) < 16
    assert abs((row + 0.5) / found.heatmap.shape[0] * 96 - 30) < 16


def test_an_autoencoder_cannot_draw_the_spot_again(surfaces, set_training) -> None:
    set_training(surfaces, family="autoencoder", weights="none", epochs=25, batch_size=8,
                 learning_rate=0.003, augment={"strength": "none"})  # fmt: skip
    report = train(workspace=surfaces)
    assert report.metrics["val_auroc"] == 1.0
    assert export(workspace=surfaces).parity.max_difference < 1e-3
    package = load_package(surfaces.package)
    version = load_version(surfaces.version("v1"), surfaces.images)
    bad = version.class_ids(version.samples["sample_id"]) == 1
    one = str(version.samples["sample_id"][int(np.flatnonzero(bad)[0])])
    (found,) = Predictor(package, threads=1).predict([read_image(version.image_path(one))])
    row, column = np.unravel_index(found.heatmap.argmax(), found.heatmap.shape)
    assert abs((column + 0.5) * 4 - 60) < 16 and abs((row + 0.5) * 4 - 30) < 16


def test_equal_pictures_are_entirely_similar() -> None:
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 20, 24, generator=rng)
    assert structural_similarity(image, image) == pytest.approx(1.0, abs=1e-4)
    assert float(structural_similarity(image, 1 - image).mean()) < 0
    assert float(structural_similarity(image, image * 0.5).mean()) < 0.9
    other = (image + 0.05).clamp(0, 1)
    full = structural_similarity(image, other)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(structural_similarity(image, other), full)


def test_an_autoencoder_takes_no_weights(surfaces, set_training) -> None:
    set_training(surfaces, family="autoencoder")
    with pytest.raises(ConfigError, match=r"training\.weights: none"):
        train(workspace=surfaces)


def test_the_same_seed_gives_the_same_memory_and_a_kill_goes_on(surfaces, run_train) -> None:
    train(workspace=surfaces)
    whole = load_checkpoint(surfaces.checkpoint).facts.model_sha256
    killed = run_train(surfaces, VISIONLOOP_FAILPOINT="training.epoch:kill:1")
    assert killed.returncode == -9
    report = train(workspace=surfaces)
    assert report.resumed_from == 1
    assert load_checkpoint(surfaces.checkpoint).facts.model_sha256 == whole


def alone(values) -> HeldOut:
    """Every picture is a group of its own."""
    return HeldOut(values, np.array([str(number) for number in range(len(values))]))


@given(st.integers(20, 200), st.sampled_from([0.05, 0.1, 0.2]))
def test_the_limit_of_pictures_on_their_own_is_the_split_conformal_one(count, rate) -> None:
    values = np.random.default_rng(count).random(count)
    limit, why = choose_limit(alone(values), rate)
    above = (values > limit).sum()
    if why:
        assert above == 0 and count < 1 / rate - 1
    else:
        assert above <= rate * (count + 1) - 1 + 1e-9 or above == 0
        assert above >= np.floor(rate * (count + 1)) - 1


def test_new_normal_pictures_are_reported_no_more_often_than_asked() -> None:
    rng = np.random.default_rng(8)
    alarms = []
    for _ in range(400):
        limit, _ = choose_limit(alone(rng.gamma(3, size=59)), 0.1)
        alarms.append((rng.gamma(3, size=50) > limit).mean())
    assert np.mean(alarms) == pytest.approx(0.1, abs=0.01)


def draw_views(rng, views) -> HeldOut:
    """Views of 1 or of 20 pictures that are alike; large ones are the unusual ones."""
    sizes = rng.choice([1, 20], size=views)
    centres = rng.normal(size=views) + (sizes > 1)
    values = np.repeat(centres, sizes) + 0.1 * rng.normal(size=sizes.sum())
    return HeldOut(10 + values, np.repeat(np.arange(views), sizes).astype(str))


def test_every_group_has_one_vote() -> None:
    rng, rate = np.random.default_rng(3), 0.1
    alarms = []
    for _ in range(400):
        limit, why = choose_limit(draw_views(rng, 40), rate)
        assert not why
        new = draw_views(rng, 40)
        by_view = [(new.values[new.groups == one] > limit).mean() for one in set(new.groups)]
        alarms.append(np.mean(by_view))
    assert np.mean(alarms) == pytest.approx(rate, abs=0.015)


def test_many_pictures_of_few_groups_cannot_promise_a_small_rate() -> None:
    rng = np.random.default_rng(0)
    held_out = HeldOut(rng.random(200), np.repeat(list("abcde"), 40))
    limit, why = choose_limit(held_out, 0.1)
    assert limit > held_out.values.max()
    assert "200 held-out normal pictures of 5 groups" in why and "9 groups would" in why


def test_a_coreset_leaves_no_patch_far_away() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 4)) * 20
    patches = (centres[:, None] + rng.normal(size=(6, 50, 4))).reshape(-1, 4).astype(np.float32)
    chosen = choose_coreset(patches, 6, rng)
    assert sorted((chosen // 50).tolist()) == [0, 1, 2, 3, 4, 5]
    assert choose_coreset(patches[:3], 6, rng).tolist() == [0, 1, 2]


def test_area_under_roc_counts_ties_half() -> None:
    values, bad = np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True])
    assert area_under_roc(values, bad) == pytest.approx((1 + 0.5 + 1 + 1) / 4)


def relabel(workspace, change) -> None:
    version = load_version(workspace.version("v1"), workspace.images)
    split = dict(zip(version.samples["sample_id"], version.samples["split"], strict=True))
    save_version(
        workspace.version("v1"),
        vision_task="anomaly",
        classes=version.classes,
        samples=version.samples,
        annotations=[
            replace(row, class_name=change(split[row.sample_id], row.class_name))
            for row in version.annotations
        ],
    )


def test_without_normal_pictures_nothing_is_learned(surfaces) -> None:
    relabel(surfaces, lambda split, name: "defective" if split == "train" else name)
    with pytest.raises(DataError, match="0 pictures of class 'normal'"):
        train(workspace=surfaces)


def test_without_held_out_normal_pictures_there_is_no_limit(surfaces) -> None:
    relabel(surfaces, lambda split, name: "defective" if split == "val" else name)
    with pytest.raises(DataError, match="the val split has no normal picture"):
        train(workspace=surfaces)
    assert not surfaces.checkpoint.exists()


def test_heads_are_not_for_anomalies(surfaces, set_training) -> None:
    set_training(surfaces, mode="probe")
    with pytest.raises(ConfigError, match=r"not for training\.family 'patch'"):
        train(workspace=surfaces)


def test_an_anomaly_project_has_two_classes(surfaces, write_params) -> None:
    project = {"vision_task": "anomaly", "classes": ["normal", "scratch", "dent"]}
    write_params(surfaces, project, {})
    with pytest.raises(ConfigError, match="two: the normal one, then the other"):
        train(workspace=surfaces)

"""The signed contract, what is new in the check, and what people do with findings."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from visionloop.core.cli import run_command
from visionloop.core.entities import Annotation
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.tables import FINDINGS, read_table
from visionloop.data.cli import app
from visionloop.data.embeddings import Embeddings, save_embeddings
from visionloop.data.quality.change import embedding_change
from visionloop.data.quality.contract import check
from visionloop.data.quality.exclusions import exclude, read_exclusions, relabel, take_back
from visionloop.data.splits.split import split
from visionloop.data.versions.freeze import freeze


@pytest.fixture
def ready(fill, make, workspace):
    make.set_params(workspace, check={"min_per_class": 2})
    samples = [
        make.raw_sample(make.png(make.picture(n)), "functional" if n % 2 else "defective")
        for n in range(12)
    ]
    fill(samples)
    return samples


def sign(workspace, text: str) -> None:
    (workspace.root / "data").mkdir(exist_ok=True)
    (workspace.root / "data" / "contract.yaml").write_text(text)


def kinds(report) -> set[str]:
    return {row.kind for row in report.findings}


def test_the_signed_contract_goes_before_params(ready, workspace):
    assert check(workspace=workspace).is_passed
    sign(workspace, "min_per_class: 7\n")
    report = check(workspace=workspace)
    assert len(report.breaches) == 2 and "fewer than 7" in report.breaches[0]
    stored = json.loads((workspace.reports / "check" / "check.json").read_text())
    assert stored["limits"]["min_per_class"] == 7
    assert stored["limits"]["max_imbalance"] == 50.0


def test_a_wrong_contract_is_told_with_its_lines(ready, workspace):
    sign(workspace, "min_per_clas: 7\ndark_below: black\n")
    with pytest.raises(ConfigError) as told:
        check(workspace=workspace)
    assert "min_per_class" in str(told.value) and "contract.yaml" in str(told.value)
    assert "dark_below" in str(told.value)


def test_shares_of_a_kind_can_be_refused(ready, workspace):
    sign(workspace, "dark_below: 255\nmax_share: {dark: 0.5}\n")
    report = check(workspace=workspace)
    assert not report.is_passed
    assert report.breaches == ("12 of 12 samples: a dark image, more than 50.0% (max_share.dark)",)


def test_required_columns(ready, workspace):
    sign(workspace, "required_columns: [camera, lot]\n")
    assert check(workspace=workspace).breaches == ("column 'lot' is missing",)


def test_odd_pictures_are_seen(fill, make, workspace):
    make.set_params(workspace, check={"min_per_class": 0})
    texture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    images = {f"plain-{n}": np.roll(texture, n * 7, axis=(0, 1)) for n in range(8)}
    images["odd_size"] = cv2.resize(texture, (640, 640))
    images["odd_shape"] = cv2.resize(texture, (600, 20))
    images["low_information"] = np.full((64, 64, 3), 128, np.uint8)
    fill([make.raw_sample(make.png(image), camera=name) for name, image in images.items()])
    report = check(workspace=workspace)
    for kind in ("odd_size", "odd_shape", "low_information"):
        named = [row.sample_id for row in report.findings if row.kind == kind]
        ids = {make.raw_sample(make.png(images[kind])).sample_id}
        assert ids <= set(named), kind
    make.set_params(workspace, check={"min_per_class": 0, "picture_checks": False})
    assert "odd_size" not in kinds(check(workspace=workspace))


def test_a_camera_that_lacks_a_class(fill, make, workspace):
    make.set_params(workspace, check={"min_per_class": 2, "min_part": 10})
    fill(
        [
            make.raw_sample(
                make.png(make.picture(n)),
                "defective" if n % 2 and n < 30 else "functional",
                camera="cam-1" if n < 30 else "cam-2",
            )
            for n in range(60)
        ]
    )
    (row,) = [row for row in check(workspace=workspace).findings if row.kind == "class_in_part"]
    assert "camera 'cam-2' has no 'defective' among 30" in row.reason


def test_one_picture_with_two_sets_of_boxes(fill, make, workspace):
    make.set_params(
        workspace, vision_task="detection", classes=["scratch"], check={"min_per_class": 1}
    )
    image = make.picture(0, size=96)
    done, other = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    boxes = [[(5, 5, 40, 40), (50, 50, 90, 90)], [(6, 5, 41, 40)]]
    samples = []
    for content, rows in zip([make.png(image), bytes(other)], boxes, strict=True):
        one = make.raw_sample(content)
        annotations = tuple(Annotation(one.sample_id, "scratch", box) for box in rows)
        samples.append(make.raw_sample(content, annotations=annotations))
    assert samples[0].sample_id != samples[1].sample_id
    fill(samples, classes=["scratch"])
    report = check(workspace=workspace)
    (row,) = [row for row in report.findings if row.kind == "conflict"]
    assert "with different boxes" in row.reason and "1 in both" in row.reason
    assert "duplicate" in kinds(report)


def test_file_names_that_say_another_class(fill, make, workspace):
    make.set_params(workspace, check={"min_per_class": 1})
    fill(
        [
            make.raw_sample(
                make.png(make.picture(n)),
                "functional" if n % 2 else "defective",
                attributes={
                    "file": f"set/{'functional' if n % 2 or n == 4 else 'defective'}_{n}.png"
                },
            )
            for n in range(12)
        ]
    )
    (row,) = [row for row in check(workspace=workspace).findings if row.kind == "foreign_class"]
    assert "functional_4.png" in row.reason and "defective" in row.reason


def test_change_against_the_version_before(fill, make, workspace):
    make.set_params(workspace, check={"min_per_class": 1, "max_share": {"change": 0.0}})
    first = [
        make.raw_sample(make.png(make.picture(n)), "functional" if n % 2 else "defective")
        for n in range(40)
    ]
    fill(first)
    split(workspace=workspace)
    freeze(workspace=workspace)
    assert check(workspace=workspace).is_passed
    darker = [
        make.raw_sample(make.png((make.picture(n) // 3).astype(np.uint8)), "defective")
        for n in range(100, 200)
    ]
    fill(darker)
    generator = np.random.default_rng(0)
    ids = [row.sample_id for row in (*first, *darker)]
    vectors = generator.normal(0, 1, (140, 8)).astype(np.float32)
    vectors[40:] += 1
    order = np.argsort(ids)
    embeddings = Embeddings([ids[n] for n in order], vectors[order], "p" * 64)
    save_embeddings(workspace.embeddings, embeddings)
    report = check(workspace=workspace)
    reasons = " ".join(row.reason for row in report.findings if row.kind == "change")
    assert "36% of the annotations are of other classes than in version v1" in reasons
    assert "luminance is" in reasons and "look different" in reasons
    assert any("a change against the version before" in row for row in report.breaches)
    sign(workspace, "compare_with: none\n")
    assert check(workspace=workspace).is_passed
    sign(workspace, "compare_with: v9\n")
    with pytest.raises(DataError, match="v9"):
        check(workspace=workspace)


def test_equal_embeddings_do_not_alarm():
    alarms = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        first, second = generator.normal(0, 1, (2, 60, 12)).astype(np.float32)
        alarms += embedding_change(first, second, seed=seed)[0] <= 0.05
    assert alarms <= 6  # 2 are to be expected
    assert embedding_change(first, second + 1)[0] <= 0.002


def test_excluded_samples_count_nowhere_and_come_back(ready, workspace, capsys):
    dark = sorted(row.sample_id for row in ready)[:2]
    sign(workspace, "dark_below: 255\n")
    check(workspace=workspace)
    findings = json.loads((workspace.reports / "check" / "check.json").read_text())["findings"]
    finding = next(row["finding_id"] for row in findings if row["sample_id"] == dark[0])
    place = ["-w", str(workspace.root)]
    command = ["exclude", finding, dark[1][:12], "--reason", "lamp was off", *place]
    assert run_command(lambda: app(command)) == 0
    assert "2 samples excluded now, 2 in all" in capsys.readouterr().out
    assert read_exclusions(workspace) == dict.fromkeys(dark, "lamp was off")
    report = check(workspace=workspace)
    assert report.counts["samples"] == 10 and report.counts["excluded"] == 2
    assert not {row.sample_id for row in report.findings} & set(dark)
    sign(workspace, "min_per_class: 2\n")
    split(workspace=workspace)
    assert freeze(workspace=workspace).samples == 10
    assert run_command(lambda: app(["exclude", "--take-back", dark[0], *place])) == 0
    assert list(read_exclusions(workspace)) == [dark[1]]
    assert take_back(workspace=workspace, names=[dark[1][:8]]).total == 0
    assert freeze(workspace=workspace, replace=True).samples == 12


def test_findings_go_back_to_people(ready, workspace):
    one, other = sorted(row.sample_id for row in ready)[:2]
    sign(workspace, "dark_below: 255\n")
    check(workspace=workspace)
    assert relabel(workspace=workspace, names=[one[:10]]).total == 1
    assert relabel(workspace=workspace, names=[one[:10]]).added == 0
    assert relabel(workspace=workspace, kinds=["dark"]).total == 13
    frame = read_table(workspace.root / "data" / "findings.parquet", FINDINGS)
    assert set(frame["kind"]) == {"label_issue"} and other in set(frame["sample_id"])
    assert list(frame["severity"]) == sorted(frame["severity"], reverse=True)
    # What people were asked is told by the next check, too.
    assert "label_issue" in kinds(check(workspace=workspace))


def test_names_that_fit_nothing_change_nothing(ready, workspace):
    check(workspace=workspace)
    with pytest.raises(DataError) as told:
        exclude(workspace=workspace, names=["0123456789", "abc"], kinds=["leak"], reason="")
    assert len(told.value.problems) == 3 and "nothing was changed" in str(told.value)
    with pytest.raises(DataError, match="name findings, samples or kinds"):
        exclude(workspace=workspace, reason="")
    assert not (workspace.root / "data" / "exclusions.json").exists()

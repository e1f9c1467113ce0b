"""From annotated pictures to an event at the edge: hard hats, all of it real.

A detector is trained on 181 pictures with the project's own verbs, packed, released; the agent
watches two real videos. The worker of one wears a helmet, the people of the other none.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import av
import cv2
import pytest
import yaml

from visionloop.core.entities import Annotation
from visionloop.core.files import sha256_of_bytes
from visionloop.core.workspace import Workspace
from visionloop.serving.edge.agent import run_agent
from visionloop.serving.edge.delivery.outbox import Outbox, read_events
from visionloop.serving.edge.record.store import open_store
from visionloop.serving.releases.store import publish
from visionloop.serving.signing import sign_folder

ROOT = Path(__file__).parents[2]
SIDES = ("xmin", "ymin", "xmax", "ymax")
CLASSES = {"Safety Helmet": "helmet", "No Safety Helmet": "no helmet"}
ZONE = [[0.0, 0.1], [1.0, 0.1], [1.0, 1.0], [0.0, 1.0]]


def write_settings(place: Workspace) -> None:
    """The board recipe, for heads with and without a helmet."""
    content = yaml.safe_load((ROOT / "training" / "configs" / "pcb.yaml").read_text())
    project = content["params"]["project"] | {
        "recipe": "hardhat",
        "model": "hardhat",
        "classes": list(CLASSES.values()),
        "seed": 0,
    }
    training = content["params"]["training"] | {
        "image_size": 416,
        "image_passes": 900,
        "batch_size": 8,
        "learning_rate": 0.002,
        "allow_scratch": False,
        # Boards have no upper side; people do.
        "augment": {"strength": "strong", "upside_down": False, "quarter_turns": False},
        "export": {"min_confidence": 0.25, "max_iou": 0.6},
    }
    data = {"dataset": "elpv", "version": "v1", "split": {"val_fraction": 0.1}}
    data["import"] = {"phases": ["commissioning"]}
    params = {"project": project, "data": data, "training": training}
    place.root.mkdir(parents=True, exist_ok=True)
    place.params.write_text(yaml.safe_dump(params, sort_keys=False))
    targets = content["targets"]
    targets["quality"] |= {"per_class": {}, "slices": []}
    place.targets.write_text(yaml.safe_dump(targets, sort_keys=False))


def raw_samples(archive: Path) -> list:
    from visionloop.data.datasets.table import RawSample

    samples = []
    with zipfile.ZipFile(archive) as content:
        for member in sorted(one for one in content.namelist() if one.endswith(".xml")):
            image = content.read(f"dataset/images/{Path(member).stem}.jpg")
            sample_id = sha256_of_bytes(image)
            rows = ElementTree.fromstring(content.read(member)).iter("object")
            heads = tuple(
                Annotation(
                    sample_id,
                    CLASSES.get(row.findtext("name"), "helmet"),
                    tuple(float(row.findtext(f"bndbox/{side}")) for side in SIDES),
                )
                for row in rows
            )
            samples.append(
                RawSample(
                    content=image,
                    suffix="jpg",
                    camera="hardhat",
                    site="web",
                    captured_at="2020-01-01T00:00:00Z",
                    annotations=heads or (Annotation(sample_id, ""),),
                    phase="commissioning",
                )
            )
    return samples


@pytest.mark.slow
def test_no_helmet_in_the_zone_is_an_event_with_a_picture(tmp_path, signed, mirror) -> None:
    from visionloop.data.datasets.imports import import_raw_samples
    from visionloop.data.splits.split import split
    from visionloop.data.versions.freeze import freeze
    from visionloop.training.export import export
    from visionloop.training.train import train

    videos = Path(os.environ.get("VISIONLOOP_VIDEOS", "nowhere"))
    if not videos.is_dir():
        pytest.skip("VISIONLOOP_VIDEOS names no folder of videos")
    place = Workspace(tmp_path / "site")
    write_settings(place)
    samples = raw_samples(mirror / "hardhat.zip")
    assert len(samples) == 181
    import_raw_samples(
        samples, workspace=place, classes=list(CLASSES.values()), name="heads", source="hardhat"
    )
    split(workspace=place)
    freeze(workspace=place, replace=True)
    train(workspace=place)
    export(workspace=place)
    gate = tmp_path / "gate"
    gate.mkdir()
    (gate / "gate.json").write_text('{"verdict": "passed"}')
    sign_folder(gate, key=signed[0], signature_name="gate.sig")
    publish(releases=place.releases, model="hardhat", package=place.package, gate_report=gate)

    rules = [
        {"name": "helmet", "kind": "zone_entry", "class_name": "helmet", "zone": "floor"},
        {
            "name": "no-helmet",
            "kind": "missing_ppe",
            "zone": "floor",
            "priority": 0,
            "settings": {"bare": "no helmet", "seconds": 0.5},
        },
    ]
    files = {"worker": "worker-zone-detection.gif", "hall": "one-by-one-person-detection.mp4"}
    cameras = [
        {"name": name, "kind": "file", "path": str(videos / file), "zones": {"floor": ZONE}}
        for name, file in files.items()
    ]
    config = place.root / "edge.yaml"
    content = {"model": "hardhat", "threads": 1, "rules": rules, "cameras": cameras}
    content["status"] = {"enabled": False}
    config.write_text(yaml.safe_dump(content))
    report = run_agent(workspace=place, config=config, max_seconds=60)

    events = [event for event in read_events(report.db) if "rule" in event.payload]
    told = {(event.payload["camera"], event.payload["rule"]) for event in events}
    assert ("hall", "no-helmet") in told
    assert ("worker", "helmet") in told
    assert ("worker", "no-helmet") not in told
    event = next(one for one in events if one.payload["rule"] == "no-helmet")
    assert event.payload["boxes"][0]["class_name"] == "no helmet"
    picture = cv2.imread(str(place.edge / event.payload["picture"]))
    assert picture.shape == (432 + 22, 768, 3)
    with av.open(str(place.edge / event.payload["clip"])) as clip:
        assert sum(1 for _ in clip.decode(video=0)) > 20
    connection = open_store(report.db)
    pending = Outbox(connection).pending()
    assert pending[0].priority == 0 and pending[0].event_id in {one.event_id for one in events}
    connection.close()

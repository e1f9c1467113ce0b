"""Weights: folder, package, hub, scratch, each said; nothing that runs code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import sha256_of_file
from visionloop.training import weights
from visionloop.training.families.timm_networks import make_network
from visionloop.training.weight_files import load_tensors
from visionloop.training.weights import find_weights


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def test_an_installed_package_is_found_and_hashed():
    found = find_weights("efficientnet-lite0")
    assert found.source == "package efficientnet-lite0"
    assert found.sha256 == sha256_of_file(found.path)
    assert found.lineage == f"efficientnet-lite0@{found.sha256}"
    assert len(load_tensors(found)) == 296


def test_the_local_folder_comes_first(tmp_path, monkeypatch):
    found = find_weights("efficientnet-lite0")
    copy = tmp_path / "efficientnet-lite0-57934424.pth"
    copy.write_bytes(found.path.read_bytes())
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(tmp_path))
    local = find_weights("efficientnet-lite0")
    assert local.source == f"folder {copy.name}"
    assert local.lineage == found.lineage


def test_the_package_fits_timm_in_order():
    network = make_network(find_weights("efficientnet-lite0"), classes=2, image_size=224)
    first = next(iter(load_tensors(find_weights("efficientnet-lite0")).values()))
    assert torch.equal(next(iter(network.state_dict().values())), first)
    assert network.get_classifier().out_features == 2


def test_offline_every_place_tried_is_named():
    with pytest.raises(DataError) as caught:
        find_weights("yolov8n")
    text = str(caught.value)
    assert "VISIONLOOP_WEIGHTS is not set" in text
    assert "hub yolov8n.pt" in text
    assert "allow_scratch" in text


def test_a_hub_of_timm_that_cannot_be_reached_is_named(monkeypatch):
    row = weights.WEIGHTS["efficientnet-lite0"]
    without = {**row.__dict__, "package": ""}
    monkeypatch.setitem(weights.WEIGHTS, "efficientnet-lite0", type(row)(**without))
    with pytest.raises(DataError, match=r"hub tf_efficientnet_lite0\.in1k"):
        find_weights("efficientnet-lite0")


def test_scratch_is_said():
    found = find_weights("yolov8n", allow_scratch=True)
    assert found.is_scratch
    assert found.source.startswith("scratch (random weights: ")
    assert found.lineage == "yolov8n@scratch"


def test_unknown_weights_offer_what_there_is():
    with pytest.raises(ConfigError, match="yolov8n"):
        find_weights("yolov9")


def test_a_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    (tmp_path / "efficientnet-lite0-57934424.pth").write_bytes(pickle.dumps(Payload(marker)))
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(tmp_path))
    with pytest.raises(DataError, match="refused"):
        load_tensors(find_weights("efficientnet-lite0"))
    assert not marker.exists()


def test_a_pickle_inside_a_torch_archive_is_refused_and_not_run(tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    torch.save({"a": Payload(marker)}, tmp_path / "efficientnet-lite0-57934424.pth")
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(tmp_path))
    with pytest.raises(DataError, match="refused"):
        load_tensors(find_weights("efficientnet-lite0"))
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_damaged_file_is_refused(tmp_path, monkeypatch, content):
    (tmp_path / "efficientnet-lite0-57934424.pth").write_bytes(content)
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(tmp_path))
    with pytest.raises(DataError, match="refused"):
        load_tensors(find_weights("efficientnet-lite0"))


def test_weights_of_another_network_are_refused(tmp_path, monkeypatch):
    tensors = {"a": torch.zeros(3)}
    torch.save(tensors, tmp_path / "efficientnet-lite0-57934424.pth")
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(tmp_path))
    with pytest.raises(DataError, match="do not fit"):
        make_network(find_weights("efficientnet-lite0"), classes=2, image_size=224)


def test_weights_of_another_library_are_refused():
    with pytest.raises(ConfigError, match="belongs to ultralytics"):
        make_network(find_weights("yolov8n", allow_scratch=True), classes=2, image_size=224)

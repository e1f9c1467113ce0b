"""A package is loaded only if it is exactly what a trusted signer made."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from visionloop.core.errors import InputError, PackageError
from visionloop.core.files import sha256_of_file
from visionloop.serving.onnx_format import find_problems
from visionloop.serving.package import load_package, write_package
from visionloop.serving.signing import new_key_pair, sign_folder, signing_key, trusted_keys


def refusal(folder, **options) -> str:
    with pytest.raises(PackageError) as caught:
        load_package(folder, **options)
    return str(caught.value)


def test_round_trip(tiny, signed):
    folder = tiny.classifier()
    package = load_package(folder)
    assert package.sha256 == sha256_of_file(folder / "manifest.json")
    assert package.manifest.classes == ["dark", "bright"]
    assert package.manifest.files == {"model.onnx": sha256_of_file(folder / "model.onnx")}
    assert package.read_model() == (folder / "model.onnx").read_bytes()


def test_the_same_model_gives_the_same_fingerprint(tiny):
    first, second = tiny.classifier("one"), tiny.classifier("two")
    assert load_package(first).sha256 == load_package(second).sha256


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "model.sig"])
def test_one_flipped_bit_in_any_place_is_refused(tiny, name):
    folder = tiny.classifier()
    original = (folder / name).read_bytes()
    rng = np.random.default_rng(7)
    for place in rng.integers(0, len(original), 12):
        damaged = bytearray(original)
        damaged[place] ^= 1
        (folder / name).write_bytes(damaged)
        if name == "model.sig" and _means_the_same(original, bytes(damaged)):
            continue
        assert "classifier" in refusal(folder)
    (folder / name).write_bytes(original)
    load_package(folder)


def _means_the_same(original: bytes, damaged: bytes) -> bool:
    """A flipped bit in a field of the bundle that is not part of what is signed."""
    try:
        first, second = json.loads(original), json.loads(damaged)
    except ValueError:
        return False
    return first["dsseEnvelope"] == second.get("dsseEnvelope")


def test_another_key_is_refused_and_rotation_takes_two(tiny, signed, tmp_path):
    folder = tiny.classifier()
    _, other = new_key_pair(tmp_path / "other")
    assert "another key signed it" in refusal(folder, trusted_keys=[other])
    assert load_package(folder, trusted_keys=[other, signed[1]])
    assert "no key is trusted" in refusal(folder, trusted_keys=[])


def test_unsigned_is_refused(tiny):
    folder = tiny.classifier()
    (folder / "model.sig").unlink()
    assert "is not signed" in refusal(folder)


@pytest.mark.parametrize("name", ["notes.txt", ".gitignore", ".git/config"])
def test_extra_files_are_refused(tiny, name):
    folder = tiny.classifier()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    refusal(folder)


def test_a_file_that_was_signed_but_is_not_named_is_refused(tiny, signed):
    folder = tiny.classifier()
    (folder / "notes.txt").write_text("x")
    sign_folder(folder, key=signed[0])
    assert "notes.txt is not named by the manifest" in refusal(folder)


def test_missing_file_is_refused(tiny):
    folder = tiny.classifier()
    (folder / "model.onnx").unlink()
    assert "missing since signing: model.onnx" in refusal(folder)


def test_symbolic_link_is_refused(tiny, tmp_path):
    folder = tiny.classifier()
    outside = shutil.copy(folder / "model.onnx", tmp_path / "outside.onnx")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(outside)
    assert "symbolic link" in refusal(folder)


def test_a_model_changed_after_verification_is_not_used(tiny):
    package = load_package(tiny.classifier())
    (package.path / "model.onnx").write_bytes(b"other")
    with pytest.raises(PackageError, match="after the package was verified"):
        package.read_model()


class Payload:
    """Leaves a mark if anything unpickles it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".onnx"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_is_refused_and_never_run(tiny, tmp_path, suffix, protocol):
    marker = tmp_path / "payload-ran"
    evil = tmp_path / f"evil{suffix}"
    evil.write_bytes(pickle.dumps(Payload(marker), protocol=protocol))
    manifest = load_package(tiny.classifier()).manifest
    with pytest.raises(PackageError, match="run code"):
        write_package(tmp_path / "out", model=evil, manifest=manifest)
    with pytest.raises(PackageError, match="run code"):
        load_package(evil)
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


def test_a_zip_checkpoint_named_onnx_is_refused(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert "zip archive" in find_problems(content.getvalue())[0]


def test_a_checkpoint_beside_the_model_is_refused_even_if_signed(tiny, signed):
    folder = tiny.classifier()
    (folder / "extra.pt").write_bytes(b"")
    sign_folder(folder, key=signed[0])
    assert "extra.pt can run code" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x08\x08"])
def test_what_is_no_onnx_is_refused(content):
    assert find_problems(content)


def test_a_cut_model_is_refused(tiny):
    content = (tiny.classifier() / "model.onnx").read_bytes()
    assert find_problems(content) == []
    assert find_problems(content[: len(content) // 2])


def external_tensor(name: str) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
    return tensor


def test_external_data_is_refused_wherever_it_hides(tmp_path, tiny, signed):
    in_list = helper.make_graph([], "g", [], [], [external_tensor("w")])
    constant = helper.make_node("Constant", [], ["c"], value=external_tensor("c"))
    in_node = helper.make_graph([constant], "g", [], [])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=in_node, else_branch=in_list)
    in_branch = helper.make_graph([branch], "g", [], [])
    manifest = load_package(tiny.classifier()).manifest
    for graph in (in_list, in_node, in_branch):
        model = tmp_path / "external.onnx"
        model.write_bytes(helper.make_model(graph).SerializeToString())
        assert "weights in other files" in find_problems(model.read_bytes())[0]
        with pytest.raises(PackageError, match="other files"):
            write_package(tmp_path / "out", model=model, manifest=manifest)


def test_a_hard_link_to_external_data_does_not_help(tmp_path, tiny, signed):
    """ONNX Runtime follows a hard link; the model that names it is refused before that."""
    folder = tiny.classifier()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(16))
    graph = helper.make_graph([], "g", [], [], [external_tensor("w")])
    (folder / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    os.link(secret, folder / "weights.bin")
    sign_folder(folder, key=signed[0])
    refusal(folder)


def test_a_manifest_of_another_format_tells_every_problem(tiny, signed):
    folder = tiny.classifier()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"format_version": 2, "surprise": 1, "classes": "dark"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    sign_folder(folder, key=signed[0])
    text = refusal(folder)
    assert all(word in text for word in ("format_version", "surprise", "classes"))


def test_keys_stay_out_of_repositories_and_are_private(tmp_path):
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    with pytest.raises(InputError, match="git repository"):
        new_key_pair(tmp_path / "repository" / "deep" / "keys")
    private, public = new_key_pair(tmp_path / "keys")
    assert private.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in public.read_bytes()
    with pytest.raises(InputError, match="already holds a key"):
        new_key_pair(tmp_path / "keys")


def test_missing_keys_say_how_to_make_them(monkeypatch, tmp_path):
    monkeypatch.delenv("VISIONLOOP_SIGNING_KEY", raising=False)
    monkeypatch.delenv("VISIONLOOP_TRUSTED_KEYS", raising=False)
    for ask in (signing_key, trusted_keys):
        with pytest.raises(InputError, match="visionloop keys new"):
            ask()
    monkeypatch.setenv("VISIONLOOP_TRUSTED_KEYS", str(tmp_path / "gone.pem"))
    with pytest.raises(InputError, match=r"gone\.pem"):
        trusted_keys()


def test_a_bad_key_leaves_the_old_package(tiny, tmp_path):
    folder = tiny.classifier()
    before = load_package(folder)
    bad = tmp_path / "bad.pem"
    bad.write_text("no key")
    with pytest.raises(InputError, match="could not be signed"):
        write_package(
            folder, model=folder / "model.onnx", manifest=before.manifest, signing_key=bad
        )
    assert load_package(folder).sha256 == before.sha256

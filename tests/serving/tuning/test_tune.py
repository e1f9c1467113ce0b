"""The device profile: every form measured in turn, the cheapest that keeps the target chosen."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from visionloop.core.errors import DataError, PackageError
from visionloop.core.targets import ParityTargets
from visionloop.serving.backends.table import BACKENDS
from visionloop.serving.engines.device import open_tuned
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.tuning.device_profile import MeasuredForm, load_profile, profile_path
from visionloop.serving.tuning.tune import choose, tune
from visionloop.serving.variants.resize_model import resize_model

LIMITS = ParityTargets(max_metric_loss=0.005)


def form(backend="onnxruntime", precision="fp32", threads=1, width=64, **measured):
    return MeasuredForm(
        backend=backend, precision=precision, threads=threads, width=width, height=width, **measured
    )


def test_two_threads_that_are_slower_than_one_are_not_chosen():
    one = form(p50_ms=30.0, p95_ms=34.0, p99_ms=36.0, cpu_ms=30.0)
    two = form(threads=2, p50_ms=90.0, p95_ms=120.0, p99_ms=130.0, cpu_ms=170.0)
    choice, is_met, why = choose([two, one], target_ms=50, limits=LIMITS)
    assert (choice.threads, is_met) == (1, True)
    assert any("with 2 threads in place of 1 it is 3.0 times slower" in line for line in why)


def test_a_busy_device_is_told_apart_from_a_slow_one():
    waits = form(p50_ms=90, p95_ms=300, cpu_ms=30)
    _, _, why = choose(
        [waits, form(threads=2, p50_ms=50, p95_ms=60, cpu_ms=80)], target_ms=50, limits=LIMITS
    )
    assert any("was busy: by the clock a picture took 3.0 times" in line for line in why)
    _, _, why = choose([form(p50_ms=31, p95_ms=34, cpu_ms=30)], target_ms=50, limits=LIMITS)
    assert not any("busy" in line for line in why)


def test_the_cheapest_that_keeps_the_target_else_the_fastest():
    forms = [
        form(p50_ms=30, p95_ms=34, cpu_ms=30),
        form(threads=2, p50_ms=18, p95_ms=22, cpu_ms=36),
        form("openvino", "int8", p50_ms=15, p95_ms=40, cpu_ms=15),
        form("tensorrt", "fp16", reason="no usable GPU for this engine"),
    ]
    choice, is_met, _ = choose(forms, target_ms=35, limits=LIMITS)
    assert (choice.backend, choice.threads, is_met) == ("onnxruntime", 1, True)
    choice, is_met, _ = choose(forms, target_ms=25, limits=LIMITS)
    assert (choice.threads, is_met) == (2, True)
    choice, is_met, why = choose(forms, target_ms=5, limits=LIMITS)
    assert (choice.threads, is_met) == (2, False)
    assert "none keeps the target" in why[0]
    assert why[-1].endswith("was not run: no usable GPU for this engine")
    with pytest.raises(PackageError, match="no form of it runs here"):
        choose(forms[-1:], target_ms=5, limits=LIMITS)


def test_a_smaller_input_counts_only_if_it_loses_little():
    big = form(p50_ms=30, p95_ms=34, cpu_ms=30)
    small = form(width=32, p50_ms=8, p95_ms=9, cpu_ms=8, metric="map50", loss=0.1)
    choice, _, why = choose([big, small], target_ms=50, limits=LIMITS)
    assert choice.width == 64
    assert any("it costs 0.1000 of map50" in line for line in why)
    wrong = form("openvino", "int8", p50_ms=5, p95_ms=6, cpu_ms=5, agreement=0.0)
    choice, _, why = choose([big, wrong], target_ms=50, limits=LIMITS)
    assert choice.backend == "onnxruntime"
    assert any("only 0% of its decisions are FP32's" in line for line in why)
    with pytest.raises(PackageError, match="no form of it answers as FP32 does"):
        choose([wrong], target_ms=50, limits=LIMITS)
    good = small.model_copy(update={"loss": 0.004})
    assert choose([big, good], target_ms=50, limits=LIMITS)[0].width == 32


@pytest.fixture
def workspace(make_workspace, make_line, tiny):
    found = make_workspace("[]", "[]")
    text = found.params.read_text().replace(
        "  edge:",
        "  tune: {rounds: 4, images: 2, sizes: [16], "
        "backends: [onnxruntime, openvino, onnxruntime-cuda]}\n  edge:",
        1,
    )
    found.params.write_text(text)
    make_line([20, 220], found.images)
    found.package.parent.mkdir()
    shutil.move(tiny.classifier(), found.package)
    return found


def test_the_profile_of_this_machine(workspace, kit, signed, capsys):
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    report = tune(workspace=workspace)
    profile = load_profile(profile_path(workspace))
    assert profile == report.profile
    rows = {(one.backend, one.threads, one.width): one for one in profile.measured}
    assert len(rows) == len(profile.measured) == 12  # 3 backends, 2 thread counts, 2 sizes
    for (backend, _, width), row in rows.items():
        if backend == "onnxruntime-cuda":
            assert "CUDAExecutionProvider" in row.reason
            continue
        assert 0 < row.p50_ms <= row.p95_ms <= row.p99_ms and row.cpu_ms > 0
        assert row.metric == "agreement" and (width == 16 or row.agreement == 1)
    assert profile.choice.backend in ("onnxruntime", "openvino")
    assert any("were not run" in line or "was not run" in line for line in profile.why)
    package = load_package(workspace.package)
    cache = workspace.edge / "engines"
    tuned = open_tuned(package, None, profile=profile_path(workspace), cache=cache, spare=1)
    assert tuned.backend_name == profile.choice.backend
    assert tuned.package.manifest.input.width == profile.choice.width
    assert tuned.predict([kit.grey_image(220)])[0].answer.class_id == 1
    profile_path(workspace).write_text("{")
    spare = open_tuned(package, None, profile=profile_path(workspace), cache=cache, spare=1)
    assert spare.backend_name == "onnxruntime"
    assert "visionloop serve tune" in capsys.readouterr().err
    with pytest.raises(DataError, match="cannot be read"):
        load_profile(profile_path(workspace))


def test_without_package_or_images_it_is_one_clear_error(workspace):
    for image in workspace.images.iterdir():
        image.unlink()
    with pytest.raises(DataError, match="no images to measure on"):
        tune(workspace=workspace)
    shutil.rmtree(workspace.package)
    with pytest.raises(PackageError, match="no package and no release"):
        tune(workspace=workspace)


def test_a_graph_takes_another_size_or_says_why_not(tiny, kit):
    package = load_package(tiny.classifier())
    smaller, content = resize_model(package, package.read_model(), 16, 24)
    assert (smaller.manifest.input.width, smaller.manifest.input.height) == (16, 24)
    found = Predictor(smaller, model=content).predict([kit.grey_image(220)])
    assert found[0].answer.class_id == 1
    same, unchanged = resize_model(package, b"x", kit.SIZE, kit.SIZE)
    assert (same, unchanged) == (package, b"x")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_backends_of_the_processor_agree(tiny, kit, backend):
    pytest.importorskip(backend, reason=f"the {backend} extra is not installed")
    for make in (tiny.classifier, tiny.detector):
        package = load_package(make())
        images = [kit.grey_image(level) for level in (30, 140, 250)]
        found = Predictor(package, backend=backend, threads=1).predict(images)
        expected = Predictor(package, threads=1).predict(images)
        for a, b in zip(found, expected, strict=True):
            if hasattr(a.answer, "probabilities"):
                assert np.allclose(a.answer.probabilities, b.answer.probabilities, atol=1e-4)
            else:
                assert np.allclose(a.answer.xyxy, b.answer.xyxy, atol=1e-2)
    with pytest.raises(PackageError, match="cannot load"):
        Predictor(package, backend=backend, model=b"<html>")


def test_every_row_of_the_table_can_be_resolved_and_refuses_what_it_cannot_run(tiny):
    from visionloop.core.errors import MissingExtraError
    from visionloop.core.plugins import resolve

    package = load_package(tiny.classifier())
    for name in BACKENDS:
        assert resolve(BACKENDS, name, kind="backend", extra="edge")
        if name in ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "tensorrt_rtx"):
            with pytest.raises((PackageError, MissingExtraError)):
                Predictor(package, backend=name, model=b"no engine")

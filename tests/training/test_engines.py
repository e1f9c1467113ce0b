"""Every family becomes an engine in FP32, FP16 and INT8; small networks with random weights.

What this proves is parser, builder and precision (TensorRT-RTX, no GPU), not the speed of a
Jetson.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from visionloop.serving.backends.onnxruntime_backend import OnnxRuntimeBackend
from visionloop.serving.backends.tensorrt_backend import find_tensorrt
from visionloop.serving.engines.builder import build_engine
from visionloop.serving.manifest import ImageInput
from visionloop.serving.variants.precision import write_fp16
from visionloop.serving.variants.quantizer import Quantizer
from visionloop.training.families.table import FAMILIES, load_family

SIZE = 64


def timm_network(name: str):
    from visionloop.training.families.timm_networks import build_network

    return build_network({"timm": name, "classes": 2, "image_size": SIZE})


def make_classifier(name: str):
    from visionloop.training.families.timm_classifier import ClassifierForExport

    return ClassifierForExport(timm_network(name))


def make_scene():
    from visionloop.training.families.scene import SceneForExport

    return SceneForExport(timm_network("vit_tiny_patch16_224"))


def make_yolo():
    pytest.importorskip("ultralytics", reason="the yolo extra is not installed")
    from visionloop.training.families.yolo import DetectorForExport, _make_network

    structure = __import__("ultralytics").nn.tasks.yaml_model_load("yolov8n.yaml")
    return DetectorForExport(_make_network(structure, 2))


def make_rtdetr():
    from visionloop.training.families.rtdetr import DetrForExport, _make_network

    facts = {"transformers": "rtdetr_v2_nano", "classes": 2, "image_size": 96}
    return DetrForExport(_make_network(facts, frozen_norms=False))


def anomaly(memory):
    from visionloop.training.families.anomaly import AnomalyForExport

    return AnomalyForExport(memory, top_share=0.05, limit=1.0)


def remembering(memory):
    with torch.inference_mode():
        rows, _ = memory.eval().patches(torch.rand(1, 3, SIZE, SIZE))
    width = rows.shape[1]
    memory.remember(torch.rand(30, width), torch.zeros(width), torch.ones(width))
    return memory


def make_autoencoder():
    from visionloop.training.families.autoencoder import Redrawing

    return anomaly(Redrawing())


def make_patch():
    from visionloop.training.families.patch import PatchMemory

    return anomaly(remembering(PatchMemory(timm_network("tf_efficientnet_lite0"), layers=[1, 2])))


def make_gaussian():
    from visionloop.training.families.gaussian import GaussianMaps
    from visionloop.training.families.moments import Moments

    maps = GaussianMaps(timm_network("tf_efficientnet_lite0"), layers=[1, 2]).eval()
    with torch.inference_mode():
        places, pictures, _ = maps.features(torch.rand(8, 3, SIZE, SIZE))
    rows = places.flatten(2).permute(0, 2, 1).flatten(0, 1)
    maps.take(Moments.of(rows.numpy()), Moments.of(pictures.numpy()))
    maps.scales = torch.ones(2)
    return anomaly(maps)


def make_flaws():
    from visionloop.training.families.flaw_network import FlawNetwork, FlawNetworks

    backbones = [timm_network("tf_efficientnet_lite0") for _ in range(2)]
    return anomaly(FlawNetworks([FlawNetwork(one, layers=[1, 2, 3]) for one in backbones]))


def make_clip_memory():
    import open_clip

    from visionloop.training.families.clip import ClipMemory

    vision = {"image_size": SIZE, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
    text = {"context_length": 8, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text)
    prompts = torch.nn.functional.normalize(torch.rand(2, 32), dim=1)
    memory = ClipMemory(
        model.visual, architecture="tiny", layers=[0, 1], prompts=prompts, prompt_weight=1.0
    )
    return remembering(memory)


def make_ensemble():
    from visionloop.training.families.autoencoder import Redrawing
    from visionloop.training.families.ensemble import Together

    members = [Redrawing(), make_clip_memory()]
    return anomaly(Together(members, mean=[0.0] * 3, std=[255.0] * 3))


NETWORKS = {
    "efficientnet": (lambda: make_classifier("tf_efficientnet_lite0"), ""),
    "convnext": (lambda: make_classifier("convnext_atto"), ""),
    "vit": (lambda: make_classifier("vit_tiny_patch16_224"), ""),
    "vit@scene": (make_scene, "scene"),
    "autoencoder": (make_autoencoder, ""),
    "clip": (lambda: anomaly(make_clip_memory()), ""),
    "ensemble": (make_ensemble, ""),
    "flaws": (make_flaws, ""),
    "gaussian": (make_gaussian, ""),
    "patch": (make_patch, ""),
    "rtdetr": (make_rtdetr, ""),
    "yolo": (make_yolo, ""),
}


def test_no_family_is_left_out() -> None:
    assert {name.partition("@")[0] for name in NETWORKS} == set(FAMILIES)


@pytest.mark.skipif(find_tensorrt() is None, reason="TensorRT is not installed")
@pytest.mark.parametrize("name", NETWORKS)
def test_every_precision_of_every_family_is_built(name, tmp_path) -> None:
    make, task = NETWORKS[name]
    torch.manual_seed(0)
    side = 96 if name == "rtdetr" else SIZE
    checkpoint = SimpleNamespace(facts=SimpleNamespace(input=ImageInput(width=side, height=side)))
    family = load_family(name.partition("@")[0], tmp_path, task)
    files = {one: tmp_path / f"{one}.onnx" for one in ("fp32", "fp16", "int8")}
    family.export(copy.deepcopy(make()).eval(), checkpoint, files["fp32"])
    write_fp16(source=str(files["fp32"]), target=str(files["fp16"]))
    rng = np.random.default_rng(0)
    batches = [rng.random((1, 3, side, side), np.float32) for _ in range(2)]
    files["int8"].write_bytes(Quantizer(files["fp32"], batches).make())
    reference = OnnxRuntimeBackend(files["fp32"].read_bytes(), subject=name, threads=1)
    for precision, file in files.items():
        graph = onnx.load(file).graph
        assert graph.input[0].type.tensor_type.shape.dim[0].dim_param  # any number of pictures
        backend = OnnxRuntimeBackend(file.read_bytes(), subject=name, threads=1)
        answers = backend.run(np.concatenate(batches))  # more than the one it was traced with
        assert set(answers) == set(reference.output_shapes)
        assert all(len(one) == 2 and np.isfinite(one).all() for one in answers.values())
        engine = tmp_path / f"{precision}.engine"
        found = build_engine(
            onnx=str(file),
            engine=str(engine),
            precision=precision,
            compute_capability="8.0",
            max_batch=4,
        )
        assert found["built"], f"{name} {precision}: {found.get('reason')}"
        assert engine.stat().st_size == found["engine_bytes"]
        (shapes,) = found["shapes"].values()
        assert shapes == {
            "min": [1, 3, side, side], "opt": [1, 3, side, side], "max": [4, 3, side, side]
        }  # fmt: skip
        types = {one for row in found["layers"].values() for one in row}
        expected = {"fp32": set(), "fp16": {"HALF"}, "int8": {"INT8"}}[precision]
        assert expected <= types and {"HALF", "INT8"} & types == expected

"""The plan: seven briefs with known answers, costs by hand, and a refusal that helps."""

import copy
import json
import math
from pathlib import Path

import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from visionloop.core.errors import ConfigError, RefusedError
from visionloop.core.targets import Targets, load_targets
from visionloop.core.workspace import Workspace
from visionloop.pipelines.plan.catalogue import CITED, DEVICES, Figure, latency_of
from visionloop.pipelines.plan.costs import estimate_costs
from visionloop.pipelines.plan.plan import make_plan, plan
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
from visionloop.serving.package import write_package

ROOT = Path(__file__).parents[3]

METRICS = {
    "detection": "map50",
    "classification": "balanced_accuracy",
    "scene": "macro_f1",
    "anomaly": "auroc",
}


def brief(task: str, **changes) -> Targets:
    """The repository's targets with these blocks changed: reliable lines, nothing private."""
    content = yaml.safe_load((ROOT / "targets.yaml").read_text())
    content["vision_task"] = task
    content["quality"] = {"metric": METRICS[task], "minimum": 0.5}
    content["deployment"] |= {"connectivity": "reliable", "privacy": "cloud_allowed"}
    content["cost"] |= {"per_1000_inferences": 0.02}
    content = copy.deepcopy(content)
    for block, values in changes.items():
        content[block] |= values
    return Targets.model_validate(content)


FAST_LINE = brief(
    "detection",
    latency={"per_frame_ms": 20.0, "cameras_per_device": 2, "frames_per_second": 25.0},
    deployment={"connectivity": "none"},
)
SORTING = brief(
    "classification",
    latency={"per_frame_ms": 300.0, "cameras_per_device": 4, "frames_per_second": 0.1},
)
PROTECTION = brief(
    "detection",
    latency={"per_frame_ms": 200.0, "cameras_per_device": 20, "frames_per_second": 5.0},
    deployment={"privacy": "images_stay_on_site", "sites": 15, "cameras": 500},
)
SHOPS = brief(
    "detection",
    latency={"per_frame_ms": 500.0, "cameras_per_device": 4, "frames_per_second": 2.0},
    deployment={"connectivity": "unreliable", "sites": 200, "cameras": 800},
)
NIGHTLY = brief(
    "scene",
    latency={"per_frame_ms": 5000.0, "cameras_per_device": 50, "frames_per_second": 0.01},
    deployment={"load": "bursts"},
)
FEW_GOOD = brief(
    "anomaly",
    latency={"per_frame_ms": 200.0, "cameras_per_device": 1, "frames_per_second": 1.0},
    deployment={"privacy": "images_stay_on_site"},
)
TOO_MUCH = brief(
    "detection",
    latency={"per_frame_ms": 5.0, "cameras_per_device": 500, "frames_per_second": 5.0},
    deployment={"connectivity": "none", "cameras": 500},
)


@pytest.mark.parametrize(
    ("targets", "family", "place"),
    [
        (FAST_LINE, "yolo", "edge"),
        (SORTING, "efficientnet", "cloud"),
        (PROTECTION, "yolo", "hybrid"),
        (SHOPS, "yolo", "edge"),
        (NIGHTLY, "vit", "cloud"),
        (FEW_GOOD, "autoencoder + clip", "edge"),
    ],
    ids=["fast line", "sorting", "protective equipment", "shops", "nightly scenes", "few good"],
)
def test_a_brief_has_its_answer_and_reasons(targets, family, place) -> None:
    found = make_plan(targets)
    assert (found.family.family, found.place.place) == (family, place)
    assert found.shortfalls == []
    assert found.family.reasons
    assert found.place.edge if place != "cloud" else found.place.cloud
    assert found.latency.origin in ("cited", "estimated")
    assert found.latency.source


def test_what_one_device_cannot_do_names_the_target_to_relax() -> None:
    found = make_plan(TOO_MUCH)
    text = " ".join(found.shortfalls)
    assert "relax latency.cameras_per_device to" in text
    fitting = int(text.split("cameras_per_device to ")[1].split()[0])
    eased = TOO_MUCH.model_copy(
        update={
            "latency": TOO_MUCH.latency.model_copy(
                update={"cameras_per_device": fitting, "per_frame_ms": 8.0}
            )
        }
    )
    assert make_plan(eased).shortfalls == []
    more = eased.model_copy(
        update={"latency": eased.latency.model_copy(update={"cameras_per_device": fitting + 1})}
    )
    assert make_plan(more).shortfalls


def test_where_agpl_is_out_boxes_come_from_rtdetr() -> None:
    targets = brief("detection", deployment={"licences": "permissive"})
    assert make_plan(targets).family.family == "rtdetr"


def test_costs_are_those_of_pencil_and_paper() -> None:
    targets = brief(
        "classification",
        latency={"per_frame_ms": 300.0, "cameras_per_device": 4, "frames_per_second": 1.0},
        deployment={"cameras": 10},
        cost={"per_1000_inferences": 0.1, "device_price": 500.0, "energy_per_kwh": 0.5},
    )
    costs = estimate_costs(targets)
    assert (costs.cameras, costs.devices, costs.hardware) == (10, 3, 1500)
    assert costs.images_a_month == pytest.approx(10 * 730 * 3600)
    assert costs.cloud_a_month == pytest.approx(2628)
    assert costs.energy_a_month == pytest.approx(3 * 0.015 * 730 * 0.5)
    assert costs.break_even_month == pytest.approx(1500 / (2628 - 16.425))
    assert "the cloud costs more than the hardware" in " ".join(make_plan(targets).place.edge)


def test_hardware_that_never_pays_is_said() -> None:
    targets = brief("classification", cost={"per_1000_inferences": 0.0})
    assert math.isinf(estimate_costs(targets).break_even_month)
    assert "never" in make_plan(targets).place.cloud[0]
    assert make_plan(targets).as_row()["costs"]["break_even_month"] is None


def test_a_measurement_decides_for_cores_and_not_for_jetsons() -> None:
    slow = Figure(400.0, "measured", "this machine")
    on_jetson = make_plan(FAST_LINE, slow)
    assert on_jetson.shortfalls == []
    assert on_jetson.here == slow
    core = FAST_LINE.model_copy(
        update={"deployment": FAST_LINE.deployment.model_copy(update={"device": "cpu-core"})}
    )
    assert "400.0 ms" in make_plan(core, slow).shortfalls[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "family", ["yolo", "rtdetr", "efficientnet", "convnext", "vit", "autoencoder + clip", "patch"]
)
def test_every_family_has_a_figure_with_its_source_on_every_device(family, device) -> None:
    figure = latency_of(family, device)
    assert figure.milliseconds > 0
    assert figure.source
    assert figure.origin == ("cited" if (family, device) in CITED else "estimated")


def test_an_unknown_device_is_named_with_the_nearest() -> None:
    targets = brief("detection", deployment={"device": "jetson-orin-nan"})
    with pytest.raises(ConfigError, match="jetson-orin-nano"):
        make_plan(targets)


def save_package(workspace: Workspace) -> None:
    """A package that answers with the softmax of the mean colour."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])
    answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 3])
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Softmax", ["mean"], ["answer"], axis=1),
    ]
    graph = helper.make_graph(nodes, "model", [image], [answer])
    model = workspace.root / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), model)
    manifest = Manifest(
        name="colours",
        vision_task="classification",
        classes=["blue", "green", "red"],
        input=ImageInput(width=32, height=32),
        outputs=ModelOutputs(answer="answer", kind="probabilities"),
    )
    workspace.package.parent.mkdir()
    write_package(workspace.package, model=model, manifest=manifest)


def test_the_verb_writes_a_page_and_measures_the_package_at_hand(tmp_path, signed) -> None:
    workspace = Workspace(tmp_path)
    save_package(workspace)
    workspace.targets.write_text((ROOT / "targets.yaml").read_text())
    assert load_targets(workspace.targets)
    found, page = plan(workspace=workspace)
    assert found.here is not None and found.here.origin == "measured"
    text = page.read_text()
    assert "efficientnet" in text and "Hardware has paid for itself" in text
    assert json.loads((page.parent / "plan.json").read_text())["place"]["place"] == "edge"


def test_a_refusal_still_leaves_the_page(tmp_path) -> None:
    path = tmp_path / "wish.yaml"
    path.write_text(yaml.safe_dump(TOO_MUCH.model_dump(mode="json")))
    with pytest.raises(RefusedError, match="cameras_per_device") as caught:
        plan(workspace=Workspace(tmp_path), path=path)
    assert caught.value.exit_code == 3
    assert "cannot be done as asked" in (tmp_path / "reports/plan/index.html").read_text()

"""Which images give INT8 its ranges, and which layers stay in float."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from visionloop.serving.variants.layer_search import find_sensitive_layers
from visionloop.serving.variants.quantization import choose_for_coverage
from visionloop.serving.variants.quantizer import Quantizer

LAYERS = [f"Conv_{number}" for number in range(40)]


def test_images_are_chosen_far_from_each_other() -> None:
    rng = np.random.default_rng(0)
    places = np.repeat([[0, 0], [9, 0], [0, 9], [9, 9]], 25, axis=0) + rng.normal(0, 0.2, (100, 2))
    chosen = choose_for_coverage(places, 4)
    assert len({one // 25 for one in chosen}) == 4
    assert choose_for_coverage(places, 4) == chosen
    assert sorted(choose_for_coverage(places, 1000)) == list(range(100))
    assert len(choose_for_coverage(np.ones((5, 3)), 3)) == 3  # all alike


def search_with(cost: dict[str, float], *, budget=0.01, seconds=60.0, costs=None):
    """Layers that add their cost to the distance while they are in INT8; noise as its root."""

    def distance(kept: list[str]) -> float:
        return sum(one for name, one in cost.items() if name not in kept)

    return find_sensitive_layers(
        LAYERS,
        noise=lambda kept: distance(kept) ** 0.5,
        distance=distance,
        budget=budget,
        seconds=seconds,
        costs=costs,
    )


def test_the_sensitive_layers_are_found_and_nothing_else_is_kept() -> None:
    search = search_with({"Conv_3": 0.3, "Conv_37": 0.2})
    assert search.kept == ["Conv_3", "Conv_37"]
    assert search.is_complete and search.distance == 0
    assert search.distance_full == 0.5
    assert search.tried <= len(LAYERS) + 6  # each alone, and a few numbers of them


def test_many_that_lose_a_little_are_kept_until_the_budget_is_met() -> None:
    search = search_with(dict.fromkeys(LAYERS, 0.001), budget=0.0255)
    assert len(search.kept) == 15 and search.is_complete
    assert search.distance == pytest.approx(0.025)


def test_what_loses_as_much_and_saves_less_is_given_up_first() -> None:
    costs = dict.fromkeys(LAYERS, 0.02) | {"Conv_3": 0.3, "Conv_20": 0.01}
    search = search_with({"Conv_3": 0.2, "Conv_20": 0.2}, budget=0.2, costs=costs)
    assert search.kept == ["Conv_20"]


def test_nothing_is_kept_where_nothing_is_lost_and_time_is_kept_to() -> None:
    search = search_with({})
    assert search.kept == [] and search.tried == 1

    def slow(kept: list[str]) -> float:
        time.sleep(0.02)
        return 1.0

    start = time.monotonic()
    search = find_sensitive_layers(LAYERS, noise=slow, distance=slow, budget=0.01, seconds=0.1)
    assert time.monotonic() - start < 3
    assert not search.is_complete


def make_network(path: Path, batch: int | str = "batch") -> Path:
    """Two convolutions and a head: 4 x 27 x 1024, 8 x 36 x 1024 and 16 multiplications."""
    draw = np.random.default_rng(0)
    weights = {
        "w0": draw.normal(0, 0.3, (4, 3, 3, 3)),
        "w1": draw.normal(0, 0.2, (8, 4, 3, 3)),
        "w2": draw.normal(0, 0.5, (8, 2)),
    }
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], name="first", **pads),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["c"], name="second", **pads),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("MatMul", ["e", "w2"], ["answer"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 32, 32])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [batch, 2])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def test_arithmetic_is_counted_and_what_is_none_stays_in_float(tmp_path) -> None:
    batches = [np.random.default_rng(n).random((1, 3, 32, 32), np.float32) for n in range(3)]
    quantizer = Quantizer(make_network(tmp_path / "network.onnx"), batches, symmetric=False)
    counts = {"first": 4 * 27 * 1024, "second": 8 * 36 * 1024, "head": 16}
    total = sum(counts.values())
    assert quantizer.costs == pytest.approx({name: one / total for name, one in counts.items()})
    assert (quantizer.layers, quantizer.cheap) == (["first", "second"], ["head"])

    def count(content: bytes) -> int:
        graph = onnx.load_model_from_string(content).graph
        return sum(node.op_type == "QuantizeLinear" for node in graph.node)

    assert count(quantizer.make()) == 2  # one before each convolution, weights are stored in INT8
    assert count(quantizer.make(kept_in_float=["first"])) == 1
    assert count(quantizer.make(kept_in_float=["first", "second"])) == 0


@pytest.mark.parametrize("symmetric", [True, False])
def test_ranges_are_the_means_of_the_images_or_the_widest(tmp_path, symmetric) -> None:
    dim, bright = (np.full((1, 3, 32, 32), level, np.float32) for level in (0.2, 1.0))
    network = make_network(tmp_path / "network.onnx")
    quantizer = Quantizer(network, [dim, bright], symmetric=symmetric)

    def scale(ranges: str) -> float:
        """Of the first rounding: that of the picture."""
        model = onnx.load_model_from_string(quantizer.make(ranges=ranges))
        node = next(one for one in model.graph.node if one.op_type == "QuantizeLinear")
        (found,) = (one for one in model.graph.initializer if one.name == node.input[1])
        return float(numpy_helper.to_array(found))

    # A symmetric range is twice as wide; picture values are never below 0.
    steps = 127 if symmetric else 255
    assert scale("mean") == pytest.approx(0.6 / steps, rel=0.02)
    assert scale("widest") == pytest.approx(1.0 / steps, rel=0.02)

"""Half precision while training: which type where, and that both loops train in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visionloop.training.checkpoint import load_checkpoint
from visionloop.training.precision import half_precision, lay_out, spare_depthwise
from visionloop.training.train import train

HAS_BFLOAT16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def test_only_asked_for_and_never_float16_on_a_processor():
    assert half_precision("full", "cuda") is None
    assert half_precision("full", "cpu") is None
    assert half_precision("mixed", "cuda") is torch.float16
    assert half_precision("mixed", "cpu") in (torch.bfloat16, None)


def test_a_processor_without_bfloat16_trains_in_full_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: False)
    assert half_precision("mixed", "cpu") is None
    assert "does not compute in bfloat16" in capsys.readouterr().err


def test_channels_last_changes_no_answer():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3)
    )
    image = torch.rand(2, 3, 32, 32)
    before = network(image)
    after = lay_out(network)(image)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(before, after, atol=1e-5)


def types_of_answers(network: torch.nn.Sequential) -> list[torch.dtype]:
    found: list[torch.dtype] = []
    hooks = [
        one.register_forward_hook(lambda _, __, answer: found.append(answer.dtype))
        for one in network
    ]
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(1, 4, 8, 8))
        assert torch.is_autocast_enabled("cpu")
    for hook in hooks:
        hook.remove()
    return found


def test_depthwise_convolutions_that_learn_stay_in_full_precision():
    layers = [torch.nn.Conv2d(4, 4, 3, groups=groups) for groups in (4, 1, 4)]
    network = torch.nn.Sequential(*layers)
    half, full = torch.bfloat16, torch.float32
    assert types_of_answers(network) == [half, half, half]
    spare_depthwise(network)
    assert types_of_answers(network) == [full, half, full]
    network[0].requires_grad_(
        False
    )  # the first stages of ``flaws``: nothing goes back through them
    assert types_of_answers(network) == [half, half, full]
    with torch.no_grad():
        assert types_of_answers(network) == [half, half, half]
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            network[2](torch.rand(1, 3, 8, 8))
        assert torch.is_autocast_enabled("cpu")


def trained(project, set_training, precision):
    set_training(project, epochs=1, precision=precision)
    report = train(workspace=project)
    assert np.isfinite(list(report.metrics.values())).all()
    return load_checkpoint(project.checkpoint)


@pytest.mark.parametrize("kind", ["cells", "boards"])
def test_mixed_trains_in_other_numbers_and_keeps_full_ones(kind, request, set_training):
    """Classification by the one loop, YOLO by Ultralytics': checkpoints are float32 in both."""
    project = request.getfixturevalue(kind)
    full = trained(project, set_training, "full")
    mixed = trained(project, set_training, "mixed")
    assert (mixed.facts.model_sha256 != full.facts.model_sha256) == HAS_BFLOAT16
    floats = [one for one in mixed.load_tensors().values() if one.is_floating_point()]
    assert {one.dtype for one in floats} == {torch.float32}

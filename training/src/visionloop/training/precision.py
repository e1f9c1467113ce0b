"""Which half precision a training may use where, and how images lie in memory meanwhile."""

from __future__ import annotations

from typing import Any

import torch

from visionloop.core.progress import say_step

__all__ = ["compute_in_half", "half_precision", "lay_out", "spare_depthwise"]


def half_precision(wanted: str, device: str) -> torch.dtype | None:
    """The type of ``training.precision: mixed`` on ``"cuda"`` or ``"cpu"``; None for ``full``.

    float16 on a GPU, whose gradients have to be scaled; bfloat16 on a processor that computes in it
    (AVX-512 BF16 or AMX), where it needs no scaling (Kalamkar et al., 2019, arXiv 1905.12322). On
    other processors it would be slower than full precision: that is said, and None is the answer.
    """
    if wanted != "mixed":
        return None
    if device == "cuda":
        return torch.float16
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    say_step("this processor does not compute in bfloat16: training in full precision")
    return None


def lay_out(network: torch.nn.Module) -> torch.nn.Module:
    """The network with the channels of convolutions last: a third faster on processors, too."""
    return network.to(memory_format=torch.channels_last)


def compute_in_half(images: torch.Tensor, half: torch.dtype | None) -> torch.Tensor:
    """The images with channels last; from here on processors compute in ``half``, unless None.

    For Ultralytics' trainer, which has no half precision on processors. It prepares a batch
    inside of an autocast that is off, which restores what was before when the loss is known.

    Parameters
    ----------
    images : float32 tensor (B, 3, H, W)
    half : dtype or None
        See :func:`half_precision`.
    """
    if half is not None:
        torch.set_autocast_dtype("cpu", half)
        torch.set_autocast_enabled("cpu", True)
    return images.contiguous(memory_format=torch.channels_last)


def spare_depthwise(network: torch.nn.Module) -> None:
    """Let depth-wise convolutions that learn compute in float32 where processors autocast.

    Backward in bfloat16 they take three to four times as long as in float32, and with them the
    training of an EfficientNet is half as long again (PyTorch 2.14). Once for each network.
    """
    for one in network.modules():
        if isinstance(one, torch.nn.Conv2d) and 1 < one.groups == one.in_channels:
            one.register_forward_pre_hook(_leave_half)
            one.register_forward_hook(_return_to_half, always_call=True)


def _leave_half(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    learns = module.weight.requires_grad or inputs[0].requires_grad
    module.left_half = torch.is_autocast_enabled("cpu") and torch.is_grad_enabled() and bool(learns)
    if not module.left_half:
        return inputs
    torch.set_autocast_enabled("cpu", False)
    return (inputs[0].float(), *inputs[1:])


def _return_to_half(module: torch.nn.Module, inputs: Any, output: Any) -> None:
    if module.left_half:
        torch.set_autocast_enabled("cpu", True)

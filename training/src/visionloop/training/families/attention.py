"""Where a vision transformer looks: attention rollout.

Abnar and Zuidema, 2020: Quantifying Attention Flow in Transformers (arXiv 2005.00928). The
attention of each block, averaged over heads and mixed half and half with the residual path, is
multiplied through; the class token's row says how much each patch has come through to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.files import write_bytes
from visionloop.serving.manifest import ImageInput
from visionloop.serving.preprocess import make_batch, place_image

__all__ = ["attention_maps", "draw_attention"]

SIDE, GAP = 176, 4


def attention_maps(network: Any, batch: torch.Tensor) -> NDArray[np.float32]:
    """How much each patch counts for the answer.

    Parameters
    ----------
    network : timm VisionTransformer
        In evaluation mode.
    batch : float32 tensor (B, 3, H, W)

    Returns
    -------
    float32 array (B, h, w)
        On the grid of patches, 0 to 1 within each picture.
    """
    kept: list[torch.Tensor] = []
    hooks, fused = [], []
    for block in network.blocks:
        fused.append(block.attn.fused_attn)
        block.attn.fused_attn = False  # so that the attention itself passes by a module
        hooks.append(
            block.attn.attn_drop.register_forward_hook(lambda _, __, out: kept.append(out))
        )
    try:
        with torch.inference_mode():
            network.forward_features(batch)
    finally:
        for hook, block, was in zip(hooks, network.blocks, fused, strict=True):
            hook.remove()
            block.attn.fused_attn = was
    return _roll_out(kept, network.patch_embed.grid_size, network.num_prefix_tokens)


def _roll_out(
    attention: Sequence[torch.Tensor], grid: tuple[int, int], prefix: int
) -> NDArray[np.float32]:
    flow = None
    for one in attention:
        mean = one.mean(dim=1)  # over the heads: (B, T, T)
        mixed = 0.5 * mean + 0.5 * torch.eye(mean.shape[-1])
        mixed = mixed / mixed.sum(dim=-1, keepdim=True)
        flow = mixed if flow is None else mixed @ flow
    assert flow is not None
    row = flow[:, 0, prefix:] if prefix else flow[:, :, :].mean(dim=1)
    maps = row.reshape(len(row), *grid).numpy()
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    return np.asarray((maps - low) / np.maximum(high - low, 1e-12), np.float32)


def draw_attention(
    path: Path,
    network: Any,
    images: Sequence[NDArray[np.uint8]],
    spec: ImageInput,
    captions: Sequence[str],
) -> None:
    """Write a PNG: each picture, and beside it where the network looks.

    Parameters
    ----------
    images : sequence of uint8 arrays (H, W, 3), BGR
        Nothing is written where there is none.
    captions : sequence of str
        One line a picture.
    """
    if not images:
        return
    batch, _ = make_batch(images, spec)
    maps = attention_maps(network, torch.from_numpy(batch))
    cells = []
    for image, heat, caption in zip(images, maps, captions, strict=True):
        placed, _ = place_image(image, spec)
        square = cv2.resize(placed, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        large = cv2.resize(heat, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        colour = cv2.applyColorMap((np.clip(large, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_JET)
        looked = cv2.addWeighted(square, 0.55, colour, 0.45, 0)
        cells.append(_with_caption(np.hstack([square, looked]), caption))
    rows = [np.hstack(cells[start : start + 3]) for start in range(0, len(cells), 3)]
    width = max(row.shape[1] for row in rows)
    padded = [
        cv2.copyMakeBorder(
            row, 0, 0, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255)
        )
        for row in rows
    ]
    write_bytes(path, cv2.imencode(".png", np.vstack(padded))[1].tobytes())


def _with_caption(picture: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    line = np.full((20, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(line, caption[:48], (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1,
                cv2.LINE_AA)  # fmt: skip
    cell = np.vstack([picture, line])
    white = (255, 255, 255)
    return np.asarray(cv2.copyMakeBorder(cell, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=white))

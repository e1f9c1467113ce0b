"""What light and lens did to an image, in four numbers (numpy only)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["STATISTIC_NAMES", "ImageStatistics", "measure_image"]


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of one image, on a grey scale of 0 to 255.

    Attributes
    ----------
    luminance : float
        Mean grey level.
    contrast : float
        Standard deviation of the grey level.
    blur : float
        Variance of the Laplacian; small means blurred (Pech-Pacheco et al., 2000).
    noise : float
        Standard deviation of sensor noise (Immerkaer, 1996: "Fast noise variance
        estimation").
    """

    luminance: float
    contrast: float
    blur: float
    noise: float

    def as_row(self) -> dict[str, float]:
        """The four numbers by name."""
        return asdict(self)


STATISTIC_NAMES = ("luminance", "contrast", "blur", "noise")


def measure_image(image: NDArray[np.uint8]) -> ImageStatistics:
    """Measure an image.

    Parameters
    ----------
    image : uint8 array (H, W) or (H, W, 3) BGR
        At least 3 x 3 pixels.
    """
    grey = image.astype(np.float32)
    if grey.ndim == 3:
        grey = grey @ np.array([0.114, 0.587, 0.299], np.float32)
    laplacian = (
        grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    )
    corners = grey[:-2, :-2] + grey[:-2, 2:] + grey[2:, :-2] + grey[2:, 2:]
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    residual = corners - 2 * edges + 4 * grey[1:-1, 1:-1]
    return ImageStatistics(
        luminance=float(grey.mean()),
        contrast=float(grey.std()),
        blur=float(laplacian.var()),
        noise=float(np.sqrt(np.pi / 2) * np.abs(residual).mean() / 6),
    )

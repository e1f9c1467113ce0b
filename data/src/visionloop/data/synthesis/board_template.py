"""The clean board: its copper, edges, nets, and how far it is from anywhere to the next edge."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Template", "Vector"]

Image = NDArray[np.uint8]
Generator = np.random.Generator
Vector = NDArray[np.float64]


class Template:
    """Copper of a clean board, with its edges and what lies on either side of them.

    Parameters
    ----------
    copper : bool array (H, W)
    """

    def __init__(self, copper: NDArray[np.bool_]) -> None:
        self.copper = copper
        self.shape: tuple[int, int] = (copper.shape[0], copper.shape[1])

    @classmethod
    def of_image(cls, image: Image) -> Template:
        """Dark is copper: Otsu's threshold of an image (H, W) or (H, W, 3)."""
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        _, light = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        return cls(light == 0)

    @cached_property
    def edges(self) -> tuple[NDArray[np.int64], Vector]:
        """Copper pixels at an edge, (N, 2) as x, y, and unit vectors that point off the copper."""
        copper = self.copper.astype(np.uint8)
        inner = cv2.erode(copper, np.ones((3, 3), np.uint8), borderValue=1)
        rows, columns = np.nonzero(copper - inner)
        soft = cv2.GaussianBlur(copper.astype(np.float32), (0, 0), 2.5)
        slope = np.stack(
            [cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)], axis=-1
        )[rows, columns]
        length = np.hypot(slope[:, 0], slope[:, 1])
        kept = length > 0.05
        places = np.stack([columns, rows], axis=1)[kept]
        return places, -(slope[kept] / length[kept, None]).astype(np.float64)

    @cached_property
    def inside(self) -> NDArray[np.float32]:
        """Pixels from each copper pixel to the nearest board."""
        return np.asarray(cv2.distanceTransform(self.copper.astype(np.uint8), cv2.DIST_L2, 5))

    @cached_property
    def outside(self) -> NDArray[np.float32]:
        """Pixels from each board pixel to the nearest copper."""
        return np.asarray(cv2.distanceTransform((~self.copper).astype(np.uint8), cv2.DIST_L2, 5))

    @cached_property
    def nets(self) -> NDArray[np.int32]:
        """Number of the connected copper that each pixel belongs to, 0 for board."""
        return np.asarray(cv2.connectedComponents(self.copper.astype(np.uint8))[1], np.int32)

    def net_at(self, place: Vector) -> int:
        """The net at a place (x, y), clipped to the board."""
        x, y = np.clip(np.rint(place).astype(int), 0, (self.shape[1] - 1, self.shape[0] - 1))
        return int(self.nets[y, x])

    def draw_edge(self, generator: Generator) -> tuple[Vector, Vector] | None:
        """A random edge pixel and its outward direction; None on a board without edges."""
        places, normals = self.edges
        if not len(places):
            return None
        number = int(generator.integers(len(places)))
        return places[number].astype(np.float64), normals[number]

    def reach(self, start: Vector, way: Vector, *, copper: bool, limit: float) -> float:
        """Pixels from start along a way that are copper (or are not), up to a limit or the rim."""
        steps = np.arange(1.0, limit + 1)
        points = np.rint(start + steps[:, None] * way).astype(int)
        height, width = self.shape
        within = (
            (points[:, 0] >= 0)
            & (points[:, 1] >= 0)
            & (points[:, 0] < width)
            & (points[:, 1] < height)
        )
        points = points[: int(within.argmin()) if not within.all() else len(points)]
        same = self.copper[points[:, 1], points[:, 0]] == copper
        if same.all():
            return float("inf") if len(points) < len(steps) else limit
        return float(same.argmin())

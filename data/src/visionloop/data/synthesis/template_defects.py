"""The six defects of bare circuit boards, drawn on any defect-free template.

Copper is dark on a light board (DeepPCB) or told by a mask. Each kind is drawn only where it
can occur: an open across a trace, a short across a gap, a mousebite into an edge, a spur out
of it, copper on free board, a pin-hole inside copper. Sizes default to what 250 training
boards of DeepPCB show (5th to 95th percentile of the changed pixels); boxes hold every
changed pixel and the margin that its annotators left (median 9 px).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.board_template import Template, Vector
from visionloop.data.synthesis.strokes import Mask, crumble, draw_spot, draw_stroke

__all__ = ["KINDS", "DefectSizes", "DrawnDefect", "draw_defect"]

Generator = np.random.Generator

TRIES = 200

MORE_MARGIN = {
    "open": 2.5,
    "short": 2.5,
    "mousebite": 1.5,
    "spur": 1.5,
    "copper": 0.5,
    "pin-hole": 0.5,
}
"""Pixels that annotators' boxes show beyond the margin of a free spot: part of a mark across an
edge changes nothing, and they boxed all of it (medians of 260 training boards)."""

CLEARANCE = {"copper": 8.0, "pin-hole": 6.0}
"""Pixels between a spot and the nearest edge: nearer ones are called spurs and mousebites (5th
percentile of the same boards)."""


@dataclass(frozen=True)
class DefectSizes:
    """Ranges that sizes are drawn from, in pixels.

    Attributes
    ----------
    stroke : (float, float)
        Width of a stroke.
    trace : (float, float)
        Width of the traces that an open cuts.
    gap : (float, float)
        Width of the gaps that a short bridges.
    depth : (float, float)
        How far a mousebite or spur reaches from the edge.
    spot : (float, float)
        Length of spots of copper and pin-holes.
    margin : float
        What a box shows around the changed pixels.
    crumbs : float
        At most this share of removed copper is left, in crumbs; added copper is solid.
    """

    stroke: tuple[float, float] = (4.0, 13.0)
    trace: tuple[float, float] = (7.0, 60.0)
    gap: tuple[float, float] = (5.0, 55.0)
    depth: tuple[float, float] = (5.0, 17.0)
    spot: tuple[float, float] = (9.0, 34.0)
    margin: float = 9.0
    crumbs: float = 0.3

    def scaled(self, factor: float) -> DefectSizes:
        """All ranges times a factor (other resolution or severity); the margin stays."""

        def times(span: tuple[float, float]) -> tuple[float, float]:
            return span[0] * factor, span[1] * factor

        return DefectSizes(
            times(self.stroke),
            times(self.trace),
            times(self.gap),
            times(self.depth),
            times(self.spot),
            self.margin,
            self.crumbs,
        )


@dataclass(frozen=True, eq=False)
class DrawnDefect:
    """One defect on a board.

    Attributes
    ----------
    kind : str
    board : bool array (H, W)
        Copper with the defect.
    mask : bool array (H, W)
        Pixels that it changed.
    xyxy : (x1, y1, x2, y2)
        Pixels; every changed pixel and the margin, clipped to the image.
    """

    kind: str
    board: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    xyxy: tuple[float, float, float, float]


def draw_defect(
    template: Template,
    kind: str,
    generator: Generator,
    *,
    sizes: DefectSizes | None = None,
    board: NDArray[np.bool_] | None = None,
    taken: NDArray[np.bool_] | None = None,
) -> DrawnDefect | None:
    """Draw a defect of this kind at a random place where it can occur.

    Parameters
    ----------
    template : Template
    kind : str
        A row of ``KINDS``.
    generator : numpy Generator
    sizes : DefectSizes or None
        None takes the defaults, which fit 640 x 640 pixels of DeepPCB.
    board : bool array (H, W) or None
        Copper with the defects so far; None is the clean template.
    taken : bool array (H, W) or None
        Where no defect may be any more.

    Returns
    -------
    DrawnDefect or None
        None where the board offers no place for it.

    Raises
    ------
    KeyError
        Unknown kind.
    """
    function, adds = KINDS[kind]
    sizes = sizes or DefectSizes()
    before = template.copper if board is None else board
    for _ in range(TRIES):
        drawn = function(template, sizes, generator)
        if drawn is None:
            continue
        if not adds:
            drawn = crumble(drawn, generator, share=sizes.crumbs)
        after = before | (drawn > 0) if adds else before & (drawn == 0)
        mask = after != before
        if mask.sum() < 12:
            continue
        xyxy = _box_of(mask, sizes.margin + MORE_MARGIN[kind])
        x1, y1, x2, y2 = (int(value) for value in xyxy)
        if taken is not None and taken[y1:y2, x1:x2].any():
            continue
        return DrawnDefect(kind, after, mask, xyxy)
    return None


def _open(template: Template, sizes: DefectSizes, generator: Generator) -> Mask | None:
    """A trace is cut through, from edge to edge."""
    edge = template.draw_edge(generator)
    if edge is None:
        return None
    place, outward = edge
    width = template.reach(place, -outward, copper=True, limit=sizes.trace[1] + 1)
    if not sizes.trace[0] <= width <= sizes.trace[1] or _passes_over(width, sizes, generator):
        return None
    start, end = place + 3 * outward, place - (width + 3) * outward
    end = end + np.array([-outward[1], outward[0]]) * generator.normal(0, 0.12 * width)
    widths = _stroke_widths(sizes, generator)
    return draw_stroke(template.shape, start, end, width=widths, generator=generator, wobble=0.08)


def _short(template: Template, sizes: DefectSizes, generator: Generator) -> Mask | None:
    """Copper bridges the gap to the next copper."""
    edge = template.draw_edge(generator)
    if edge is None:
        return None
    place, outward = edge
    gap = template.reach(place, outward, copper=False, limit=sizes.gap[1] + 1)
    if not sizes.gap[0] <= gap <= sizes.gap[1] or _passes_over(gap, sizes, generator):
        return None
    start, end = place - 2 * outward, place + (gap + 3) * outward
    if template.net_at(start) == template.net_at(end) and generator.random() < 0.8:
        return None  # most shorts join two nets
    widths = _stroke_widths(sizes, generator)
    return draw_stroke(template.shape, start, end, width=widths, generator=generator, wobble=0.08)


def _mousebite(template: Template, sizes: DefectSizes, generator: Generator) -> Mask | None:
    """A bite out of the edge of copper, which still conducts."""
    edge = template.draw_edge(generator)
    if edge is None:
        return None
    place, outward = edge
    width = template.reach(place, -outward, copper=True, limit=80)
    depth = min(_draw_size(sizes.depth, generator), 0.62 * min(width, 80))
    if depth < 3:
        return None
    return _mark_at_edge(template, place, -outward, depth, sizes, generator)


def _spur(template: Template, sizes: DefectSizes, generator: Generator) -> Mask | None:
    """A thorn of copper that reaches nowhere."""
    edge = template.draw_edge(generator)
    if edge is None:
        return None
    place, outward = edge
    gap = template.reach(place, outward, copper=False, limit=80)
    depth = min(_draw_size(sizes.depth, generator), 0.62 * min(gap, 80))
    if depth < 3:
        return None
    return _mark_at_edge(template, place, outward, depth, sizes, generator)


def _mark_at_edge(
    template: Template,
    place: Vector,
    way: Vector,
    depth: float,
    sizes: DefectSizes,
    generator: Generator,
) -> Mask:
    """A slanted stroke or a spot that starts at an edge and reaches ``depth`` along ``way``."""
    aside = np.array([-way[1], way[0]]) * generator.normal(0, 10.0)
    if generator.random() < 0.3:
        size = (generator.uniform(1.0, 2.4) * depth + 5, generator.uniform(1.1, 1.7) * depth)
        centre = place + way * 0.3 * depth
        mask = draw_spot(template.shape, centre, size=size, generator=generator)
    else:
        widths = tuple(min(0.75 * one, 1.2 * depth) for one in _stroke_widths(sizes, generator))
        end = place + way * max(1.0, depth - widths[1] / 2) + aside
        mask = draw_stroke(
            template.shape,
            place - 2 * way,
            end,
            width=(widths[0], widths[1]),
            generator=generator,
        )
    return mask


def _copper(template: Template, sizes: DefectSizes, generator: Generator) -> Mask | None:
    """A spot of copper where none should be."""
    return _free_spot(template.outside, CLEARANCE["copper"], sizes, generator)


def _pin_hole(template: Template, sizes: DefectSizes, generator: Generator) -> Mask | None:
    """A hole inside the copper."""
    return _free_spot(template.inside, CLEARANCE["pin-hole"], sizes, generator)


def _free_spot(
    room: NDArray[np.float32], clearance: float, sizes: DefectSizes, generator: Generator
) -> Mask | None:
    """A spot or short stroke that stays away from every edge."""
    shape = (room.shape[0], room.shape[1])
    length = _draw_size(sizes.spot, generator)
    breadth = min(length, max(5.0, length * generator.uniform(0.35, 0.9)))
    fitting = np.flatnonzero(room > breadth / 2 + clearance)
    if not len(fitting):
        return None
    row, column = divmod(int(fitting[generator.integers(len(fitting))]), shape[1])
    place = np.array([column, row], np.float64)
    if generator.random() < 0.5:
        mask = draw_spot(shape, place, size=(length, breadth), generator=generator)
    else:
        angle = generator.uniform(0, 2 * np.pi)
        end = place + np.array([np.cos(angle), np.sin(angle)]) * max(1.0, length - breadth)
        taper = generator.uniform(0.45, 1.0)
        mask = draw_stroke(shape, place, end, width=(breadth, breadth * taper), generator=generator)
    return mask if room[mask > 0].min() > clearance / 2 else None


def _passes_over(way: float, sizes: DefectSizes, generator: Generator) -> bool:
    """Long ways to cut or bridge are rarer than the edges that offer them."""
    return bool(generator.random() > (1.4 * sizes.trace[0] / way) ** 1.5)


def _stroke_widths(sizes: DefectSizes, generator: Generator) -> tuple[float, float]:
    width = _draw_size(sizes.stroke, generator)
    return width, width * float(generator.uniform(0.6, 1.3))


def _draw_size(span: tuple[float, float], generator: Generator) -> float:
    """Small ones are more frequent: uniform in the logarithm."""
    return float(np.exp(generator.uniform(np.log(span[0]), np.log(span[1]))))


def _box_of(mask: NDArray[np.bool_], margin: float) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    return (
        max(0.0, float(columns[0]) - margin),
        max(0.0, float(rows[0]) - margin),
        min(float(width), float(columns[-1]) + 1 + margin),
        min(float(height), float(rows[-1]) + 1 + margin),
    )


KINDS: dict[str, tuple[Callable[[Template, DefectSizes, Generator], Mask | None], bool]] = {
    "open": (_open, False),
    "short": (_short, True),
    "mousebite": (_mousebite, False),
    "spur": (_spur, True),
    "copper": (_copper, True),
    "pin-hole": (_pin_hole, False),
}
"""Kind to its function and whether it adds copper (or takes it away)."""

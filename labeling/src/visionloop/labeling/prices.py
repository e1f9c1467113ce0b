"""What an action of an annotator costs, in seconds.

Draw is extreme clicking (Papadopoulos et al., ICCV 2017), a strong way of drawing by hand;
verify and draw as simulated by Konyushkova et al., CVPR 2018.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

__all__ = ["Prices"]


@dataclass(frozen=True)
class Prices:
    """Seconds of each action.

    Attributes
    ----------
    glance : float
        Look at a picture as a whole.
    draw : float
        Draw a box.
    pick : float
        Pick a class.
    adjust : float
        Move the sides of a drafted box.
    delete : float
        Remove a drafted box.
    verify : float
        Look at one drafted box and find it right or wrong.
    accept : float
        Accept all of a picture's draft at once.
    """

    glance: float = 2.0
    draw: float = 7.0
    pick: float = 1.5
    adjust: float = 3.5
    delete: float = 1.0
    verify: float = 1.6
    accept: float = 1.0

    def scaled(self, factor: float, name: str = "") -> Prices:
        """One price times a factor, or all of them."""
        names = [name] if name else [one.name for one in fields(self)]
        return replace(self, **{one: factor * getattr(self, one) for one in names})

    def by_action(self) -> dict[str, float]:
        """The prices as :func:`visionloop.labeling.thresholds.choose_thresholds` takes them."""
        table = {one.name: getattr(self, one.name) for one in fields(self)}
        table["class"] = table.pop("pick")
        return table

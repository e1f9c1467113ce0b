"""What to label next: one function a strategy, and the table of them.

Every strategy takes a :class:`~visionloop.labeling.strategies.pool.Pool` and returns
indices into it, most useful first. A new one is a function (here or in another
package) and a row in ``STRATEGIES``; if it asks a model, its name belongs into the
set that says which answers it needs.
"""

from __future__ import annotations

__all__ = ["NEEDS_CHALLENGER", "NEEDS_PROBABILITIES", "STRATEGIES", "USES_PROBABILITIES"]

_HERE = "visionloop.labeling.strategies"

STRATEGIES = {
    "recommended": f"{_HERE}.phases:select_recommended",
    "random": f"{_HERE}.diversity:select_random",
    "margin": f"{_HERE}.uncertainty:select_margin",
    "entropy": f"{_HERE}.uncertainty:select_entropy",
    "boxes": f"{_HERE}.uncertainty:select_doubtful_boxes",
    "k-centre": f"{_HERE}.diversity:select_k_centre",
    "typical": f"{_HERE}.diversity:select_typical",
    "informative": f"{_HERE}.design:select_informative",
    "disagreement": f"{_HERE}.disagreement:select_disagreement",
    "rare-class": f"{_HERE}.wanted:select_rare_class",
    "drifted": f"{_HERE}.wanted:select_drifted",
    "mix": f"{_HERE}.mix:select_mix",
    "phases": f"{_HERE}.phases:select_phases",
    "doubtful-spread": f"{_HERE}.phases:select_doubtful_spread",
}

NEEDS_PROBABILITIES = frozenset(
    {"margin", "entropy", "boxes", "doubtful-spread", "disagreement", "rare-class"}
)
"""Strategies for which the package must first look at the whole pool."""

USES_PROBABILITIES = frozenset({"recommended", "mix", "phases", "drifted"})
"""Strategies that ask the package where there is one, and do without before the first export."""

NEEDS_CHALLENGER = frozenset({"disagreement"})
"""Strategies for which a second package must look at the pool."""

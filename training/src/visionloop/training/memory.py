"""Out of memory, told apart from other failures."""

from __future__ import annotations

from visionloop.core.errors import VisionloopError

__all__ = ["explain_failure"]

SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "insufficient memory")
"""What torch (CUDA and CPU), the operating system and OpenCV say."""


def explain_failure(error: Exception) -> Exception:
    """The error itself, or one with a next step where memory ran out.

    Parameters
    ----------
    error : Exception
        What ended a training.
    """
    text = " ".join(str(error).split())
    if not isinstance(error, MemoryError) and not any(sign in text.lower() for sign in SIGNS):
        return error
    return VisionloopError(
        "training",
        f"memory ran out ({text[:160] or type(error).__name__})",
        "make training.batch_size or training.image_size smaller, then the same command: the "
        "last finished epoch is kept as long as nothing else is changed",
    )

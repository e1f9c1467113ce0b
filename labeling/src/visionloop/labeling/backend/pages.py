"""The page of jobs: what trains, how far it is, why it failed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from visionloop.labeling.backend.jobs import Job

__all__ = ["render_jobs"]

REFRESH_SECONDS = 3


def render_jobs(jobs: Sequence[Job], *, model: str, version: str, problems: Sequence[str]) -> str:
    """The page as HTML; it renews itself while something runs or waits.

    Parameters
    ----------
    jobs : sequence of Job
        Newest first.
    model : str
        Name of the project's model.
    version : str
        Whose drafts are shown; empty before the first model.
    problems : sequence of str
        What keeps the backend from its work.
    """
    import jinja2

    text = files("visionloop.labeling.backend").joinpath("jobs.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    is_busy = any(not job.is_over for job in jobs)
    return environment.from_string(text).render(
        jobs=jobs,
        model=model,
        version=version,
        problems=problems,
        refresh=REFRESH_SECONDS if is_busy else 0,
    )

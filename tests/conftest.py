"""Fixtures that several stages share, and the rule for skips in continuous integration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from visionloop.core.privacy import set_quiet_environment

set_quiet_environment()
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers share two cores

ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.txt"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With CI=true a skip is a failure unless its reason is allowed."""
    outcome = yield
    report = outcome.get_result()
    if not report.skipped or os.environ.get("CI") != "true" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not any(reason.startswith(prefix) for prefix in _allowed_prefixes()):
        report.outcome = "failed"
        report.longrepr = f"skipped in continuous integration: {reason}"


def _allowed_prefixes() -> list[str]:
    lines = ALLOWED_SKIPS.read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="session")
def key_pair(tmp_path_factory) -> tuple[Path, Path]:
    """A throw-away signing key pair (private, public)."""
    from visionloop.serving.signing import new_key_pair

    return new_key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(key_pair, monkeypatch) -> tuple[Path, Path]:
    """The key pair, named in the environment as commands expect it."""
    private, public = key_pair
    monkeypatch.setenv("VISIONLOOP_SIGNING_KEY", str(private))
    monkeypatch.setenv("VISIONLOOP_TRUSTED_KEYS", str(public))
    return private, public


@pytest.fixture
def mirror() -> Path:
    """The folder of data set archives named by VISIONLOOP_MIRROR."""
    folder = os.environ.get("VISIONLOOP_MIRROR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VISIONLOOP_MIRROR names no folder of data set archives")
    return Path(folder)

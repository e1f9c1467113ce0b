"""Nothing phones home, and no log shows a password."""

from __future__ import annotations

import os
import re

__all__ = ["QUIET_ENVIRONMENT", "mask_secrets", "set_quiet_environment"]

QUIET_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "ULTRALYTICS_SAFE_LOAD": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "COLLECT_ANALYTICS": "False",
    "LATEST_VERSION_CHECK": "False",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_DISABLE_TORCH_CHECK": "1",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "GIT_PYTHON_REFRESH": "quiet",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Switches off telemetry, update calls and unsafe loading in the libraries we start, and lets
their threads wait instead of spin: spinning made training three times slower on a busy machine.
``HF_HUB_OFFLINE=0`` in the caller's environment allows hub downloads again."""

_URL_PASSWORD = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<user>[^\s:/@]*):[^\s/@]*@")
_TOKEN = re.compile(r"(?i)(token|password|secret|api[_-]?key|authorization)(['\"]?\s*[=:]\s*)\S+")


def set_quiet_environment() -> None:
    """Set the switches that the caller has not set."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Where it is unset, importing Ultralytics sets it to 1, and every process that is started
    # later then trains on one core.
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))


def mask_secrets(text: str) -> str:
    """Replace passwords in URLs and values of tokens by ``***``."""
    text = _URL_PASSWORD.sub(r"\g<scheme>\g<user>:***@", text)
    return _TOKEN.sub(r"\1\2***", text)

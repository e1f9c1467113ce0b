"""Asks `visionloop serve http` about pictures, and asks again when it is busy.

VISIONLOOP_HTTP_TOKEN=$(cat http/token) python ask_server.py http://127.0.0.1:8600 a.jpg b.png
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import httpx

ATTEMPTS = 8


def predict(client: httpx.Client, pictures: list[Path]) -> dict[str, Any]:
    """The answer on some pictures: release, package, one prediction a picture."""
    files = [("images", (path.name, path.read_bytes())) for path in pictures]
    for _ in range(ATTEMPTS):
        response = client.post("/v1/predict", files=files)
        if response.status_code not in (429, 503):
            break
        # Not all clients at the same moment: up to half as long again.
        time.sleep(int(response.headers.get("retry-after", 1)) * random.uniform(1, 1.5))
    if response.status_code != 200:
        raise SystemExit("\n".join(response.json()["problems"]))
    answer: dict[str, Any] = response.json()
    return answer


def main(url: str, *names: str) -> None:
    """Print one line a picture."""
    headers = {"Authorization": f"Bearer {os.environ['VISIONLOOP_HTTP_TOKEN']}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        answer = predict(client, [Path(name) for name in names])
    print(f"{answer['model']}, release {answer['release']}, package {answer['package'][:12]}")
    for found in answer["predictions"]:
        if found.get("boxes") is not None:
            text = ", ".join(f"{b['class_name']} {b['confidence']:.2f}" for b in found["boxes"])
        elif found.get("class_name") is not None:
            text = f"{found['class_name']} {found['confidence']:.2f}"
        else:
            text = ", ".join(f"{name} {p:.2f}" for name, p in found["attributes"].items())
        print(f"{found['name']}: {text or 'nothing'}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The peer of ``http_server.py``: FastAPI and Ultralytics as their manuals put them together.

A model loaded once, a route that is no coroutine, so that FastAPI calls it on its pool of
threads; nothing bounds how many wait. Same ONNX model, same number of processors.
Ultralytics is AGPL-3.0.
"""

from __future__ import annotations

import sys
from typing import Any

from visionloop.core.privacy import set_quiet_environment

set_quiet_environment()


def make_app(model_path: str) -> Any:
    """The application."""
    import cv2
    import numpy as np
    from fastapi import Body, FastAPI
    from ultralytics import YOLO

    app, model = FastAPI(), YOLO(model_path, task="detect")

    @app.get("/readyz")
    def readyz() -> str:
        return "ok"

    @app.post("/v1/predict")
    def predict(content: bytes = Body(media_type="image/jpeg")) -> list[dict[str, Any]]:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        (found,) = model.predict(image, imgsz=640, verbose=False)
        rows = zip(
            found.boxes.cls.tolist(),
            found.boxes.conf.tolist(),
            found.boxes.xyxy.tolist(),
            strict=True,
        )
        return [
            {"class_name": found.names[int(number)], "confidence": confidence, "xyxy": xyxy}
            for number, confidence, xyxy in rows
        ]

    model.predict(np.zeros((640, 640, 3), np.uint8), imgsz=640, verbose=False)
    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(make_app(sys.argv[1]), port=int(sys.argv[2]), log_level="error", access_log=False)

"""What the OpenAPI document says beyond what FastAPI reads from the routes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from visionloop.serving.http.answers import ModelAnswer, PredictAnswer, Problems
from visionloop.serving.http.pictures import PredictRequest

__all__ = ["BODY", "DESCRIPTION", "ERRORS", "MAPS", "MODEL", "PREDICTED", "add_request_schema"]

DESCRIPTION = """\
Predictions of the newest release. Every request carries `Authorization: Bearer <token>`.

A server that is busy answers **429** at once, with `Retry-After` in seconds: ask again then, or
ask another replica. What is accepted is answered within the latency budget."""

BODY = {
    "required": True,
    "description": "One picture, or several. Most direct is the file itself; base64 is a third "
    "larger and takes longer to read.",
    "content": {
        "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
        "image/png": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {
                    "images": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "PNG or JPEG files; the name of the field is free",
                    },
                    "minimum_confidence": {"type": "number", "minimum": 0, "maximum": 1},
                },
            }
        },
        "application/json": {"schema": {"$ref": "#/components/schemas/PredictRequest"}},
    },
}

MAPS = {
    "name": "maps",
    "in": "query",
    "required": False,
    "schema": {"type": "boolean", "default": False},
    "description": "Whether anomaly packages also answer where: a small grey PNG a picture.",
}

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problems, "description": "The form is damaged"},
    401: {"model": Problems, "description": "No token, or a wrong one"},
    408: {"model": Problems, "description": "The body did not arrive in time"},
    413: {"model": Problems, "description": "Too many bytes, pictures or pixels"},
    415: {"model": Problems, "description": "Another content type"},
    422: {"model": Problems, "description": "A picture is damaged, or there is none"},
    429: {"model": Problems, "description": "Busy; `Retry-After` says when to ask again"},
    500: {"model": Problems, "description": "The model gave no usable answer"},
    503: {"model": Problems, "description": "No release serves"},
}

PREDICTED: dict[str, Any] = {
    "model": PredictAnswer,
    "description": "One prediction a picture, in a `PredictAnswer`",
}
MODEL: dict[str, Any] = {"model": ModelAnswer, "description": "A `ModelAnswer`"}


def add_request_schema(app: FastAPI) -> None:
    """Describe the JSON form, which the route reads by itself."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        schemas = document["components"]["schemas"]
        if "PredictRequest" not in schemas:
            template = "#/components/schemas/{model}"
            asked = PredictRequest.model_json_schema(ref_template=template)
            schemas |= {**asked.pop("$defs"), "PredictRequest": asked}
        return document

    app.openapi = openapi  # type: ignore[method-assign]

"""Bad input over a real connection: one clear answer, nothing decoded, neighbours unharmed."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import time
import zlib

import httpx
import pytest

BOUNDARY = "xyz"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture
def running(make_plant, tiny, serve_http, wait_until):
    plant = make_plant(
        max_pictures=3,
        max_request_mb=1.0,
        max_megapixels=2.0,
        max_uploading_mb=1.5,
        body_timeout_s=0.5,
    )
    plant.release(tiny.classifier())
    with serve_http(plant.workspace) as served:
        wait_until(lambda: served.ask("GET", "/readyz").status_code == 200)
        yield served


def part(content: bytes, name: str = "f", file: str | None = "a.png") -> bytes:
    suffix = f'; filename="{file}"' if file is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{suffix}\r\n\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def as_json(*contents: bytes, **more) -> bytes:
    images = [{"content": base64.b64encode(content).decode()} for content in contents]
    return json.dumps({"images": images, **more}).encode()


def bomb(width: int = 30000, height: int = 30000) -> bytes:
    """A PNG of few bytes that says it is enormous."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def cases(good: bytes) -> dict[str, tuple[bytes, dict[str, str], int, str]]:
    """Name to body, headers, expected status, and a word of the problem."""
    image, text = {"Content-Type": "image/png"}, {"Content-Type": "application/json"}
    return {
        "no boundary": (part(good) + END, {"Content-Type": "multipart/form-data"}, 400, "boundary"),
        "huge boundary": (part(good), {"Content-Type": FORM["Content-Type"] + "z" * 4000}, 400, ""),
        "form cut in the picture": ((part(good) + END)[:150], FORM, 400, "truncated"),
        "form without its end": (part(good), FORM, 400, "truncated"),
        "another boundary": (part(good).replace(b"xyz", b"abc") + END, FORM, 400, "damaged"),
        "many pictures": (part(good) * 4 + END, FORM, 413, "more than 3"),
        "very many parts": (part(b"", "x") * 3000 + END, FORM, 413, "more than 3"),
        "many headers": (
            f"--{BOUNDARY}\r\n".encode() + b"A: b\r\n" * 5000 + b"\r\nx\r\n" + END,
            FORM,
            400,
            "",
        ),
        "a long header": (
            f"--{BOUNDARY}\r\nA: ".encode() + b"b" * 500_000 + b"\r\n\r\nx\r\n" + END,
            FORM,
            400,
            "",
        ),
        "unknown field": (part(b"1", "top_k", None) + part(good) + END, FORM, 422, "top_k"),
        "confidence nan": (
            part(b"nan", "minimum_confidence", None) + part(good) + END,
            FORM,
            422,
            "0 to 1",
        ),
        "form without pictures": (END, FORM, 422, "no picture"),
        "empty file": (part(b"") + END, FORM, 422, "0 bytes"),
        "empty body": (b"", image, 422, "no picture"),
        "empty batch": (b'{"images": []}', text, 422, "images"),
        "not json": (b"{", text, 422, "JSON"),
        "bad utf-8": (b'{"images": "\xff"}', text, 422, ""),
        "deep json": (b"[" * 100_000, text, 422, ""),
        "unknown key": (as_json(good, top_k=1), text, 422, "top_k"),
        "confidence as text": (as_json(good, minimum_confidence="1"), text, 422, "confidence"),
        "not base64": (b'{"images": [{"content": "%%%"}]}', text, 422, "base64"),
        "many in json": (as_json(*[good] * 4), text, 413, "more than 3"),
        "text": (b"hello", image, 422, "neither a PNG nor a JPEG"),
        "truncated picture": (good[:-20], image, 422, "truncated"),
        "flipped byte": (good[:60] + b"\x00\x01" + good[62:], image, 422, "damaged"),
        "pickle": (b"\x80\x04cos\nsystem\n.", image, 422, "neither"),
        "bomb": (bomb(), image, 422, "megapixels"),
        "bomb within the decoder's limit": (bomb(7000, 7000), image, 413, "megapixels"),
        "bomb in a form": (part(good) + part(bomb()) + END, FORM, 422, "megapixels"),
        "too large": (good + bytes(1_000_001), image, 413, "1 MB"),
        "another type": (good, {"Content-Type": "text/html"}, 415, "text/html"),
        "no type": (good, {}, 415, ""),
    }


def test_each_gets_its_status_with_all_problems_and_the_server_goes_on(running, kit, png) -> None:
    good = png(kit.grey_image(200))
    for name, (body, headers, status, word) in cases(good).items():
        response = running.ask("POST", "/v1/predict", content=body, headers=headers)
        assert response.status_code == status, f"{name}: {response.status_code} {response.text}"
        problems = response.json()["problems"]
        assert word in " ".join(problems), f"{name}: {problems}"
        assert len(response.text) < 3000, name
        assert running.predict(good).status_code == 200, f"after: {name}"
    assert running.ask("GET", "/healthz").status_code == 200
    assert running.metric("visionloop_http_model_failures_total") == 0


def test_every_damaged_picture_of_a_request_is_named(running, kit, png) -> None:
    good = png(kit.grey_image(200))
    body = part(b"no", file="one.png") + part(good) + part(b"", file="three.png") + END
    problems = running.ask("POST", "/v1/predict", content=body, headers=FORM).json()["problems"]
    assert len(problems) == 2
    assert problems[0].startswith("one.png: ") and problems[1].startswith("three.png: ")


def send_raw(running, text: bytes) -> tuple[int, float]:
    """Status of what is sent as it is, and the seconds until the answer."""
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        began = time.monotonic()
        connection.sendall(text)
        answer = connection.recv(4096)
        return int(answer.split()[1]), time.monotonic() - began


def head(running, *lines: str) -> bytes:
    token = running.ask("GET", "/readyz").request.headers["authorization"]
    first = ["POST /v1/predict HTTP/1.1", "Host: x", f"Authorization: {token}"]
    return "\r\n".join([*first, "Content-Type: image/png", *lines, "", ""]).encode()


def test_a_huge_declared_size_is_refused_before_a_byte_of_it(running) -> None:
    status, seconds = send_raw(running, head(running, "Content-Length: 99999999999"))
    assert status == 413
    assert seconds < 1.5


def test_a_body_that_never_ends_is_given_up(running) -> None:
    status, seconds = send_raw(running, head(running, "Content-Length: 1000") + b"abc")
    assert status == 408
    assert 0.4 < seconds < 4
    chunks = b"40000\r\n" + bytes(0x40000) + b"\r\n"
    status, _ = send_raw(running, head(running, "Transfer-Encoding: chunked") + chunks * 5)
    assert status == 413


def test_bodies_that_are_received_have_a_bound_together(running, wait_until) -> None:
    """Slow senders cannot fill the memory: the fourth half megabyte is one too many."""
    request = head(running, "Content-Length: 900000") + bytes(450_000)
    host, port = running.url.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port)), timeout=20) for _ in range(3)]
    try:
        for connection in slow:
            connection.sendall(request)
        wait_until(lambda: running.state.bodies.receiving_bytes >= 1_350_000)
        assert send_raw(running, request)[0] == 429
    finally:
        for connection in slow:
            connection.close()
    wait_until(lambda: running.state.bodies.receiving_bytes == 0)


def test_no_token_no_body(running, kit, png) -> None:
    """A stranger's declared gigabyte is not waited for."""
    text = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n"
    status, seconds = send_raw(running, text)
    assert status == 401
    assert seconds < 1.5


def test_one_bad_picture_of_a_batch_harms_nobody_else(
    running, kit, png, monkeypatch, wait_until
) -> None:
    """Requests that were put into one call of the model: each gets its own answer."""
    good = png(kit.grey_image(200))
    monkeypatch.setattr("visionloop.serving.http.pace.Pace.choose", lambda *_, **__: len(_[1]))
    monkeypatch.setattr("visionloop.serving.http.pace.Pace.wait", lambda *_: 0.0)
    damaged = good[:60] + b"\x00\x01" + good[62:]

    async def all_at_once() -> list[int]:
        headers = {"Content-Type": "image/png", **head_of(running)}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=30) as client:
            sent = [
                client.post(running.url + "/v1/predict", content=damaged if n % 3 == 0 else good)
                for n in range(24)
            ]
            return [response.status_code for response in await asyncio.gather(*sent)]

    assert asyncio.run(all_at_once()) == [422 if n % 3 == 0 else 200 for n in range(24)]


def head_of(running) -> dict[str, str]:
    return {"Authorization": running.ask("GET", "/readyz").request.headers["authorization"]}

"""Twice as many requests as it can answer: who is accepted is in time, who is not hears at once."""

from __future__ import annotations

import asyncio
import random
import time

import httpx
import numpy as np
import pytest

SLACK = 3
"""On the figures that are promised: the machine of the tests does other things, too."""


async def ask(client: httpx.AsyncClient, url: str, content: bytes, due: float) -> tuple[int, float]:
    """Status, and seconds since the moment when the request was due."""
    response = await client.post(url, content=content)
    if response.status_code == 429:
        assert int(response.headers["retry-after"]) >= 1
    return response.status_code, time.perf_counter() - due


async def alone(client, url, content, count: int) -> list[float]:
    """One request after another, with pauses."""
    found = []
    for _ in range(count):
        await asyncio.sleep(0.03)
        status, seconds = await ask(client, url, content, time.perf_counter())
        assert status == 200
        found.append(seconds)
    return found


async def rated(client, url, content, seconds: float) -> float:
    """Answers a second when each of three connections asks again as soon as it may."""
    end, count = time.perf_counter() + seconds, 0

    async def one() -> None:
        nonlocal count
        while time.perf_counter() < end:
            status, _ = await ask(client, url, content, time.perf_counter())
            count += status == 200
            if status == 429:
                await asyncio.sleep(0.005)

    await asyncio.gather(one(), one(), one())
    return count / seconds


async def arriving(client, url, content, rate: float, seconds: float) -> list[tuple[int, float]]:
    """Arrivals by chance at this rate, whatever the answers are."""
    draw, tasks, due = random.Random(0), [], time.perf_counter()
    for _ in range(int(rate * seconds)):
        due += draw.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(client, url, content, due)))
    return await asyncio.gather(*tasks)


@pytest.mark.parametrize("lanes", [1, 2])
def test_at_twice_the_rated_load(
    make_plant, slow_classifier, start_command, bearer, kit, png, lanes
) -> None:
    plant = make_plant(lanes=lanes)
    plant.release(slow_classifier(layers=60))
    server = start_command(plant.workspace)
    url, content = f"{server.url}/v1/predict", png(kit.grey_image(120))

    async def measure():
        limits = httpx.Limits(max_connections=None)
        headers = {**bearer, "Content-Type": "image/png"}
        options = {"headers": headers, "limits": limits, "timeout": 60, "trust_env": False}
        async with httpx.AsyncClient(**options) as client:
            await alone(client, url, content, 5)
            idle = await alone(client, url, content, 25)
            rate = await rated(client, url, content, 2.0)
            return idle, rate, await arriving(client, url, content, 2 * rate, 4.0)

    idle, _rate, found = asyncio.run(measure())
    accepted = [seconds for status, seconds in found if status == 200]
    refused = [seconds for status, seconds in found if status == 429]
    assert len(accepted) + len(refused) == len(found)
    assert len(refused) >= len(found) / 6, "twice the rated load must be more than it takes"
    assert len(accepted) >= len(found) / 6, "it goes on answering about as much as it can"
    limit = 2 * np.percentile(idle, 99)
    assert np.percentile(accepted, 95) <= SLACK * limit
    assert np.median(refused) <= SLACK * 0.020
    text = httpx.get(f"{server.url}/metrics", headers=bearer, trust_env=False).text
    assert 'visionloop_http_requests_total{status="429"}' in text


def test_the_queue_has_a_bound_whatever_the_budget_says(
    make_plant, slow_classifier, serve_http, wait_until, bearer, kit, png
) -> None:
    plant = make_plant(lanes=1, queue_pictures=4, latency_budget_ms=600_000.0, max_batch=1)
    plant.release(slow_classifier(layers=60))
    content = png(kit.grey_image(120))

    async def all_at_once(url: str) -> list[int]:
        headers = {**bearer, "Content-Type": "image/png"}
        async with httpx.AsyncClient(headers=headers, timeout=60, trust_env=False) as client:
            sent = [client.post(url, content=content) for _ in range(16)]
            return [response.status_code for response in await asyncio.gather(*sent)]

    with serve_http(plant.workspace) as running:
        wait_until(lambda: running.ask("GET", "/readyz").status_code == 200, seconds=60)
        found = asyncio.run(all_at_once(running.url + "/v1/predict"))
        assert running.metric("visionloop_http_queue_pictures") == 0
        assert running.predict(content).status_code == 200
    assert set(found) == {200, 429}
    # Four that wait, and those that a lane took or finished while others arrived.
    assert 4 <= found.count(200) < 12

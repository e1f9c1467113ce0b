"""Load on an HTTP server, from a process of its own: prints what each request met, as JSON.

``open`` sends at a given rate whatever the answers are, so a server that falls behind meets
ever more requests, and durations count from the moment a request was due. ``closed`` asks again
after each answer.

    python benchmarks/http_load.py open URL PICTURES --rate 20 --seconds 10
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

__all__ = ["Outcome", "load"]

TIMEOUT = 30.0
RETRY_SECONDS = 0.02


@dataclass(frozen=True)
class Outcome:
    """What requests met: status (0: none) and seconds of each, and how long it all took."""

    statuses: list[int]
    seconds: list[float]
    took: float

    def of(self, status: int) -> list[float]:
        """Seconds of the requests with this status."""
        rows = zip(self.statuses, self.seconds, strict=True)
        return [seconds for found, seconds in rows if found == status]

    @property
    def rate(self) -> float:
        """Answers with 200 a second."""
        return len(self.of(200)) / self.took


def load(kind: str, url: str, pictures: Path, **options: Any) -> Outcome:
    """Run this module in a process of its own and read what it prints."""
    given = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, __file__, kind, url, str(pictures), *given]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return Outcome(**json.loads(done.stdout))


async def ask(client: httpx.AsyncClient, url: str, content: bytes) -> int:
    """Status of one request; 0 if there was no answer."""
    try:
        return (await client.post(url, content=content)).status_code
    except httpx.HTTPError:
        return 0


async def run_open(client: httpx.AsyncClient, options: Any, contents: list[bytes]) -> Outcome:
    """Arrivals of a Poisson process, or evenly spaced ones."""
    draw = random.Random(options.seed)
    count = round(options.rate * options.seconds)
    gaps = [
        1 / options.rate if options.even else draw.expovariate(options.rate) for _ in range(count)
    ]
    statuses, seconds = [0] * count, [0.0] * count
    start = time.perf_counter() + 0.05

    async def one(number: int, due: float) -> None:
        statuses[number] = await ask(client, options.url, contents[number % len(contents)])
        seconds[number] = time.perf_counter() - due

    tasks, due = [], start
    for number in range(count):
        due += gaps[number]
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    return Outcome(statuses, seconds, time.perf_counter() - start)


async def run_closed(client: httpx.AsyncClient, options: Any, contents: list[bytes]) -> Outcome:
    """So many connections, each asking again after its answer."""
    statuses: list[int] = []
    seconds: list[float] = []
    start = time.perf_counter()
    end = start + options.seconds

    async def one(number: int) -> None:
        while time.perf_counter() < end:
            began = time.perf_counter()
            number += 1
            statuses.append(await ask(client, options.url, contents[number % len(contents)]))
            seconds.append(time.perf_counter() - began)
            if statuses[-1] != 200:
                await asyncio.sleep(RETRY_SECONDS)

    await asyncio.gather(*(one(number) for number in range(options.connections)))
    return Outcome(statuses, seconds, time.perf_counter() - start)


async def run(options: Any) -> Outcome:
    """One load."""
    contents = [path.read_bytes() for path in sorted(options.pictures.glob("*.jpg"))]
    headers = {
        "Authorization": f"Bearer {os.environ.get('VISIONLOOP_HTTP_TOKEN', '')}",
        "Content-Type": "image/jpeg",
    }
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    async with httpx.AsyncClient(
        headers=headers, limits=limits, timeout=TIMEOUT, trust_env=False
    ) as client:
        gc.disable()  # a pause of this process would be counted as the server's
        return await (run_open if options.kind == "open" else run_closed)(client, options, contents)


def main() -> None:
    """Run one load and print the outcome."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["open", "closed"])
    parser.add_argument("url")
    parser.add_argument("pictures", type=Path, help="folder of JPEG files")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second (open)")
    parser.add_argument("--even", type=int, default=0, help="1: evenly spaced (open)")
    parser.add_argument("--connections", type=int, default=4, help="(closed)")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(vars(asyncio.run(run(parser.parse_args())))))


if __name__ == "__main__":
    main()

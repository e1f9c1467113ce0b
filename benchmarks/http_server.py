"""The HTTP server under twice the load it can bear: who is accepted is in time, the rest is told.

YOLOv8n (COCO weights, 640 pixels) as a signed release, pictures of people with hard hats, the load
from a process of its own on the same machine. Peer: FastAPI and Ultralytics as their manuals put
them together, same ONNX model (``http_peer.py``). In each round both are asked one after another:
alone (evenly spaced, far apart), as fast as four connections can (the rated load), and at twice
that rate with arrivals by chance. Durations count from the moment a request was due. At the same
rate requests are sent that nobody has to work for: what the machine adds by itself.

    python benchmarks/http_server.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from http_load import Outcome, load
from http_place import Place, make_place, run_ours, run_peer
from report import make_row, save_results

from visionloop.core.progress import say_step

IDLE_RATE, IDLE_SECONDS = 2.5, 30
RATED_SECONDS = 10
OVER_SECONDS = 20
PEER = "FastAPI + Ultralytics"


@dataclass(frozen=True)
class Round:
    """One server, once: alone, as fast as it can, at twice that, and with nothing to do."""

    idle: Outcome
    rated: Outcome
    over: Outcome
    floor: Outcome

    @property
    def idle_p99(self) -> float:
        """Milliseconds."""
        return percentile(self.idle.of(200), 99)

    @property
    def over_p99(self) -> float:
        """Milliseconds, of what was answered with 200."""
        return percentile(self.over.of(200), 99)

    @property
    def lost(self) -> float:
        """Requests at twice the load that got neither an answer nor 429."""
        return float(sum(status not in (200, 429) for status in self.over.statuses))


def main() -> None:
    """Measure, print the table, write ``results/http_server.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ours, peer = [], []
    with tempfile.TemporaryDirectory() as name:
        place = make_place(Path(name))
        for number in range(options.rounds):
            say_step(f"round {number + 1} of {options.rounds}")
            with run_ours(place) as url:
                ours.append(measure(url, place, number))
            with run_peer(place) as url:
                peer.append(measure(url, place, number))
    save_results("http_server", rows(ours, peer), rounds=options.rounds)


def measure(url: str, place: Place, seed: int) -> Round:
    """One round of one server."""
    load("open", url, place.pictures, rate=4, seconds=4, even=1)
    idle = load("open", url, place.pictures, rate=IDLE_RATE, seconds=IDLE_SECONDS, even=1)
    rated = load("closed", url, place.pictures, seconds=RATED_SECONDS)
    time.sleep(1)
    rate = 2 * rated.rate
    over = load("open", url, place.pictures, rate=rate, seconds=OVER_SECONDS, seed=seed)
    floor = load(
        "open", url.replace("v1/predict", "readyz"), place.pictures, rate=rate, seconds=OVER_SECONDS
    )
    return Round(idle, rated, over, floor)


def rows(ours: list[Round], peer: list[Round]) -> list[dict[str, object]]:
    """What is claimed: the median of the rounds, and their spread."""

    def row(
        claim: str,
        figure: Callable[[Round], float],
        *,
        target: float | None = None,
        higher_is_better: bool = False,
        has_peer: bool = True,
    ) -> dict[str, object]:
        found = [figure(one) for one in ours]
        other = float(np.median([figure(one) for one in peer])) if has_peer else None
        return make_row(
            claim,
            float(np.median(found)),
            peer=other,
            peer_name=PEER if has_peer else "",
            spread=(min(found), max(found)),
            target=target,
            higher_is_better=higher_is_better,
        )

    return [
        row(
            "p99 at twice the rated load, by p99 alone", lambda r: r.over_p99 / r.idle_p99, target=2
        ),
        row(
            "median of the 429 at twice the rated load, ms", refusal(50), target=20, has_peer=False
        ),
        row("p99 of the 429 at twice the rated load, ms", refusal(99), target=20, has_peer=False),
        row(
            "requests to a wrong method, nothing else going on: p99, ms", floor(99), has_peer=False
        ),
        row(
            "share of the 429 within 20 ms",
            lambda r: float(np.mean(np.array(r.over.of(429)) <= 0.02)),
            higher_is_better=True,
            has_peer=False,
        ),
        row("requests neither answered nor refused at twice the rated load", lambda r: r.lost),
        row("alone: median, ms", lambda r: percentile(r.idle.of(200), 50)),
        row("alone: p99, ms", lambda r: r.idle_p99),
        row("at twice the rated load: p99 of answers, ms", lambda r: r.over_p99),
        row("rated load, answers a second", lambda r: r.rated.rate, higher_is_better=True),
        row(
            "answers a second at twice the rated load, by the rated load",
            lambda r: r.over.rate / r.rated.rate,
            higher_is_better=True,
        ),
    ]


def refusal(share: float) -> Callable[[Round], float]:
    """Milliseconds to the 429."""
    return lambda found: percentile(found.over.of(429), share)


def floor(share: float) -> Callable[[Round], float]:
    """Milliseconds to a 405: what the machine and the generator take by themselves."""
    return lambda found: percentile(found.floor.of(405), share)


def percentile(seconds: list[float], share: float) -> float:
    """Milliseconds; NaN of nothing."""
    return float(np.percentile(seconds, share)) * 1e3 if seconds else float("nan")


if __name__ == "__main__":
    main()

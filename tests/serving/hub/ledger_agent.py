"""A device for the ledger tests: puts events, writes down each id after it is durable, sends.

    python ledger_agent.py FOLDER URL WANTED BATCH PAUSE

It puts events until WANTED were put (over all its lives) and FOLDER/enough exists, then ends as
soon as all are acknowledged.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

from visionloop.serving.edge.delivery.guarded_outbox import GuardedOutbox
from visionloop.serving.edge.delivery.sender import Sender
from visionloop.serving.edge.delivery.sinks.params import SinkParams
from visionloop.serving.edge.delivery.sinks.table import SinkContext


def add_some(start: int, batch: int, _, box) -> list[str]:
    at = "2026-11-01T10:00:00Z"
    return [
        box.append(kind="k", priority=n % 3, created_at=at, payload={"n": n})
        for n in range(start, start + batch)
    ]


def main(folder: Path, url: str, wanted: int, batch: int, pause: float) -> None:
    outbox = GuardedOutbox(folder, sinks={"hub": 9})
    params = SinkParams(
        name="hub", kind="receiver", address=url, token_env="LEDGER_TOKEN", timeout_s=5
    )
    sender = Sender(outbox, [params], SinkContext("plant", "d1", folder))
    sender.start()
    ledger = os.open(folder / "ledger", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    done = os.fstat(ledger).st_size // 37
    while done < wanted or not (folder / "enough").exists():
        ids = outbox.commit(partial(add_some, done, batch))
        os.write(ledger, "".join(f"{one}\n" for one in ids).encode())
        done += batch
        time.sleep(pause)
    while outbox.depth().waiting["hub"]:
        time.sleep(0.05)
    sender.stop()
    outbox.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))

"""Several processes that train one network: ``torchrun ... -m visionloop.training train``.

Every process sees its own part of each batch; gradients are averaged (DistributedDataParallel).
The first one (rank 0) writes resume points, reports and the MLflow run, the others only compute.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.training.resume import EpochRow, ResumePoint

__all__ = ["Processes", "SilentResumePoint", "processes", "this_process"]


@dataclass(frozen=True)
class Processes:
    """Who this process is among those that train together.

    Attributes
    ----------
    rank, world : int
        0 of 1 where a process trains alone.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def own_part(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's rows of a batch; all get equally many, a short batch is repeated."""
        if self.world == 1:
            return rows
        wanted = -(-len(rows) // self.world) * self.world
        return np.resize(rows, wanted)[self.rank :: self.world]

    def wrap(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network as it is called in training: gradients are averaged over the processes."""
        if self.world == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(network)

    def average(self, value: float) -> float:
        """Mean of a number over the processes."""
        if self.world == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        shared = shared.cuda() if torch.cuda.is_available() else shared
        torch.distributed.all_reduce(shared)
        return float(shared) / self.world

    def agree(self, row: EpochRow) -> EpochRow:
        """The row of the first process, for all: who stops early must not differ."""
        if self.world == 1:
            return row
        shared = [row]
        torch.distributed.broadcast_object_list(shared, src=0)
        return shared[0]


def this_process() -> Processes:
    """Rank and number of processes as ``torchrun`` has put them into the environment."""
    return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


@contextmanager
def processes() -> Iterator[Processes]:
    """Join the other processes for as long as the block lasts; nothing where there are none."""
    own = this_process()
    if own.world == 1:
        yield own
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield own
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


class SilentResumePoint(ResumePoint):
    """The resume point of a process that does not write: it reads, and remembers the history."""

    def save_epoch(self, row: EpochRow, files: dict[str, bytes]) -> None:
        """Remember the row; rank 0 writes the files."""
        self.history = [*self.history, row]

    def remember_run(self, run_id: str) -> None:
        """Nothing: rank 0 has the run."""

    def clear(self) -> None:
        """Nothing: rank 0 removes it."""

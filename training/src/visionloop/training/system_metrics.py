"""What the machine did while it trained, by MLflow's names: shown beside the model's metrics."""

from __future__ import annotations

import psutil
import torch

__all__ = ["SystemMetrics"]

MEGABYTE = 1e6


class SystemMetrics:
    """Load, memory, disk and network since the last reading."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        psutil.cpu_percent()  # the first reading of psutil says nothing: it starts the interval
        self._network = psutil.net_io_counters()

    def read(self) -> dict[str, float]:
        """One number a metric; megabytes are millions of bytes, percentages of the machine."""
        memory = psutil.virtual_memory()
        found = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_percentage": memory.percent,
            "system/process_memory_megabytes": self._process.memory_info().rss / MEGABYTE,
            "system/disk_usage_percentage": psutil.disk_usage("/").percent,
        }
        return found | self._read_network() | _read_gpu()

    def _read_network(self) -> dict[str, float]:
        before, now = self._network, psutil.net_io_counters()
        self._network = now
        if before is None or now is None:  # a machine without a network card
            return {}
        return {
            "system/network_receive_megabytes": (now.bytes_recv - before.bytes_recv) / MEGABYTE,
            "system/network_transmit_megabytes": (now.bytes_sent - before.bytes_sent) / MEGABYTE,
        }


def _read_gpu() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "system/gpu_0_memory_usage_percentage": 100 * (total - free) / total,
        "system/gpu_0_memory_usage_megabytes": (total - free) / MEGABYTE,
    }

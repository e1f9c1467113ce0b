"""The degradation ladder: order, causes, hysteresis, and the readers on real files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from visionloop.serving.edge.ladder import RUNGS, Ladder, LadderParams
from visionloop.serving.edge.pressure import (
    AgePressure,
    DiskPressure,
    HeatPressure,
    MemoryPressure,
    Pressure,
    ProcessorPressure,
)


class Dial:
    """A pressure that a test sets."""

    def __init__(self, cause="overload", share=0.0):
        self.cause, self.share = cause, share

    def read(self):
        return Pressure(self.share, f"{self.cause} at {self.share:.0%}")


def run(ladder, start, seconds):
    """One tick a second; returns the changes with their times."""
    changes = []
    for now in range(start, start + seconds):
        change = ladder.tick(now=float(now))
        if change is not None:
            changes.append((now, change.before, change.level, change.reason))
    return changes


def test_what_matters_least_goes_first_and_comes_back_last():
    dial = Dial(share=1.2)
    ladder = Ladder(LadderParams(worse_s=6.0), [dial])
    changes = run(ladder, 0, 60)
    assert [(before, level) for _, before, level, _ in changes] == [(n, n + 1) for n in range(6)]
    assert changes[0][0] == 6
    assert all("overload at 120%" in reason for *_, reason in changes)
    assert not any(ladder.allows(rung) for rung in RUNGS)
    assert ladder.pace == 0.5
    dial.share = 0.5
    back = run(ladder, 60, 400)
    assert [(before, level) for _, before, level, _ in back] == [
        (n, n - 1) for n in range(6, 0, -1)
    ]
    assert [now for now, *_ in back] == [60 + 30 * n for n in range(1, 7)]
    assert ladder.level == 0
    assert ladder.reason == ""
    assert all(ladder.allows(rung) for rung in RUNGS)


def test_the_order_of_the_rungs_is_the_order_of_the_promise():
    dial = Dial(share=2.0)
    ladder = Ladder(LadderParams(worse_s=6.0), [dial])
    left = []
    for start in range(0, 42, 7):
        run(ladder, start, 7)
        left.append([rung for rung in RUNGS if ladder.allows(rung)])
    assert left == [list(RUNGS[n:]) for n in range(1, 7)]


def test_between_the_limit_and_relief_nothing_changes():
    dial = Dial(share=1.1)
    ladder = Ladder(LadderParams(worse_s=6.0), [dial])
    run(ladder, 0, 8)
    assert ladder.level == 1
    dial.share = 0.95
    assert run(ladder, 8, 500) == []
    for now in range(508, 700):  # a pressure that swings faster than it must hold
        dial.share = 1.3 if now % 5 == 0 else 0.5
        assert ladder.tick(now=float(now)) is None


def test_a_full_disk_takes_pictures_and_clips_and_nothing_else():
    disk, load = Dial("disk", 3.0), Dial("overload", 0.2)
    ladder = Ladder(LadderParams(worse_s=6.0), [disk, load])
    run(ladder, 0, 100)
    assert ladder.level == 2
    assert not ladder.allows("clips")
    assert ladder.allows("frame_rate")
    load.share = 1.5
    changes = run(ladder, 100, 30)
    assert changes[0][2] == 3
    assert "overload" in changes[0][3]
    load.share = disk.share = 0.1
    run(ladder, 130, 400)
    assert ladder.level == 0


def test_a_rung_that_had_to_be_taken_again_is_given_back_later():
    """Otherwise a device that is a little too small would swing for ever."""
    dial = Dial()
    ladder = Ladder(LadderParams(worse_s=6.0), [dial])
    ups = []
    for now in range(3000):
        dial.share = 1.2 if ladder.level == 0 else 0.5
        change = ladder.tick(now=float(now))
        if change is not None and change.level == 0:
            ups.append(now)
    gaps = [second - first for first, second in pairwise(ups)]
    assert gaps == sorted(gaps)
    assert gaps[-1] >= 8 * 30
    assert len(ups) < 12


def test_a_rung_that_a_device_does_not_have_is_skipped():
    dial = Dial(share=1.5)
    ladder = Ladder(LadderParams(worse_s=6.0), [dial], missing=["full_size", "full_package"])
    changes = run(ladder, 0, 60)
    assert [level for _, _, level, _ in changes] == [1, 2, 3, 6]
    assert ladder.allows("full_package")
    dial.share = 0.1
    assert [level for _, _, level, _ in run(ladder, 60, 200)] == [3, 2, 1, 0]


def test_the_payload_names_what_is_given_up():
    dial = Dial(share=1.5)
    ladder = Ladder(LadderParams(worse_s=6.0), [dial])
    change = next(c for n in range(20) if (c := ladder.tick(now=float(n))) is not None)
    assert change.as_payload() == {
        "level": 1,
        "before": 0,
        "given_up": ["thumbnails"],
        "reason": "overload at 150%",
    }


def test_processor_pressure_reads_the_kernel():
    reader = ProcessorPressure(limit=0.5)
    program = "import time\nend = time.time() + 1.2\nwhile time.time() < end: pass"
    busy = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(os.cpu_count() or 1)]
    time.sleep(1.0)
    found = reader.read()
    for process in busy:
        process.wait()
    assert 0.5 < found.share <= 2.0
    assert "busy" in found.reason


def test_processor_pressure_counts_only_since_the_last_reading(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu 100 0 100 800 0 0 0 0 0 0\n")
    reader = ProcessorPressure(limit=0.5, proc=tmp_path)
    stat.write_text("cpu 180 0 100 820 0 0 0 0 0 0\n")
    assert reader.read().share == pytest.approx(0.8 / 0.5)
    assert reader.read().share == 0.0
    stat.unlink()
    assert reader.read().share == 0.0


def test_heat_pressure_takes_the_hottest_zone_and_its_own_trip_point(tmp_path):
    for number, degrees in enumerate((45_000, 71_000)):
        zone = tmp_path / "class" / "thermal" / f"thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(f"{degrees}\n")
        (zone / "trip_point_0_type").write_text("passive\n")
        (zone / "trip_point_0_temp").write_text("70000\n")
        (zone / "trip_point_1_type").write_text("critical\n")
        (zone / "trip_point_1_temp").write_text("60000\n")
    found = HeatPressure(85.0, sys=tmp_path).read()
    assert found.share > 1
    assert "71 °C at thermal_zone1, limit 70" in found.reason
    assert HeatPressure(85.0, sys=tmp_path / "none").read().share == 0.0


def test_disk_and_memory_pressure_read_the_machine(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize / 1e6
    assert DiskPressure(tmp_path, least_mb=free / 10, least_share=1.0).read().share < 0.2
    assert DiskPressure(tmp_path, least_mb=free * 2, least_share=1.0).read().share > 1
    assert DiskPressure(tmp_path / "gone").read().share == 1.0
    assert MemoryPressure().read().share > 0
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 30 kB\n")
    assert MemoryPressure(proc=tmp_path).read().share == pytest.approx(2.0)


def test_age_pressure_asks_the_agent():
    assert AgePressure(lambda: 3.0, 2.0).read().share == 1.5


def test_a_busy_processor_alone_gives_nothing_up():
    """Frames that come late do: ``overload``."""
    busy = Dial("processor", 1.03)
    ladder = Ladder(LadderParams(), [busy])
    assert run(ladder, 0, 200) == []
    assert ladder.pressures["processor"].share == 1.03

"""Progress is shown beside the work and never changes it."""

import subprocess
import sys

from visionloop.core.progress import track

PROGRAM = """
import random
from visionloop.core.progress import track
random.seed(4)
before = random.getstate()
list(track(range(3), "counting"))
assert random.getstate() == before
"""


def test_seeded_work_does_not_notice_that_it_is_shown() -> None:
    # In a process of its own: only the first import of the library behind it draws numbers.
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)


def test_rows_come_through_in_order(capsys) -> None:
    assert list(track(iter("abc"), "reading", total=3)) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""

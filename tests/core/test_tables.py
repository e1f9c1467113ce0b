"""Tables keep their required columns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from visionloop.core.errors import DataError
from visionloop.core.tables import REQUESTS, read_table, write_table


def rows() -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "extra": [1],
            "sample_id": ["a"],
            "reason": ["dark"],
            "priority": [0.5],
            "requested_by": ["x"],
        }
    )


def test_round_trip_orders_required_columns_first(tmp_path: Path) -> None:
    path = write_table(tmp_path / "r.parquet", REQUESTS, rows())
    assert list(read_table(path, REQUESTS).columns) == [*REQUESTS.columns, "extra"]


def test_missing_column_file_and_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="priority"):
        write_table(tmp_path / "r.parquet", REQUESTS, rows().drop(columns="priority"))
    assert not list(tmp_path.iterdir())
    rows().drop(columns="priority").to_parquet(tmp_path / "short.parquet")
    with pytest.raises(DataError, match="lacks priority"):
        read_table(tmp_path / "short.parquet", REQUESTS)
    with pytest.raises(DataError, match="no requests table"):
        read_table(tmp_path / "none.parquet", REQUESTS)
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_table(tmp_path / "text.parquet", REQUESTS)


def test_killed_before_the_rename_keeps_the_old_table(tmp_path: Path) -> None:
    path = write_table(tmp_path / "r.parquet", REQUESTS, rows())
    code = (
        "import pandas\n"
        "from pathlib import Path\n"
        "from visionloop.core.tables import REQUESTS, read_table, write_table\n"
        f"path = Path({str(path)!r})\n"
        "write_table(path, REQUESTS, read_table(path, REQUESTS).assign(reason='new'))\n"
    )
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": "tables.before_rename:kill:1"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -9
    assert read_table(path, REQUESTS)["reason"].tolist() == ["dark"]
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert read_table(path, REQUESTS)["reason"].tolist() == ["new"]

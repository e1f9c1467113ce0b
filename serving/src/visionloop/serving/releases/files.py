"""``files.json`` of a release: what a device that fetches over the network must ask for.

It is a table of contents and no proof: what was fetched is verified by the signed index, the
signature of the package and that of the engines.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from visionloop.core.config import StrictModel
from visionloop.core.errors import PackageError
from visionloop.core.files import sha256_of_file, write_json

__all__ = ["FILES_NAME", "ReleaseFile", "ReleaseFiles", "is_release_path", "write_files"]

FILES_NAME = "files.json"
PARTS = ("package", "gate", "engine")
MAX_FILES = 2000


def is_release_path(path: str) -> bool:
    """Whether a path names a file inside ``package``, ``gate`` or ``engine``, and nothing else."""
    first, *rest = path.split("/")
    is_plain = all(part not in ("", ".", "..") and "\\" not in part for part in rest)
    return first in PARTS and bool(rest) and is_plain and path.isprintable()


class ReleaseFile(StrictModel):
    """One file of a release."""

    path: str = Field(max_length=500)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        if not is_release_path(path):
            raise ValueError(f"'{path}' is no file of a release")
        return path


class ReleaseFiles(StrictModel):
    """The whole of ``files.json``."""

    files: list[ReleaseFile] = Field(max_length=MAX_FILES)

    @classmethod
    def parse(cls, content: bytes, subject: str) -> ReleaseFiles:
        """Read it.

        Raises
        ------
        PackageError
            If it is damaged, or names a file outside of the release.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise PackageError(subject, f"is no list of the files of a release: {first}") from None


def write_files(folder: Path) -> None:
    """List the files of a release folder in its ``files.json``."""
    paths = sorted(path for part in PARTS for path in (folder / part).rglob("*") if path.is_file())
    rows = [
        {
            "path": path.relative_to(folder).as_posix(),
            "size": path.stat().st_size,
            "sha256": sha256_of_file(path),
        }
        for path in paths
    ]
    write_json(folder / FILES_NAME, {"files": rows})

"""Model packages: a folder with ``model.onnx``, ``manifest.json`` and a signature.

The package's fingerprint is the SHA-256 of ``manifest.json``, which names the
SHA-256 of every other file. Nothing in a package runs code on load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from visionloop.core.errors import PackageError
from visionloop.core.files import (
    replace_folder,
    sha256_of_bytes,
    sha256_of_file,
    write_bytes,
    write_json,
)
from visionloop.serving import signing
from visionloop.serving.manifest import Manifest
from visionloop.serving.onnx_format import find_problems

__all__ = ["ModelPackage", "load_package", "write_package"]

MANIFEST_NAME = "manifest.json"
MODEL_NAME = "model.onnx"
MAX_MODEL_BYTES = 2 << 30

REFUSED_SUFFIXES = (".pt", ".pt2", ".pth", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".ckpt")
REFUSED_HINT = "export the model to ONNX: visionloop train export"


@dataclass(frozen=True)
class ModelPackage:
    """A package whose signature, file list and file contents were checked.

    Attributes
    ----------
    path : Path
        Its folder.
    manifest : Manifest
    sha256 : str
        Fingerprint: SHA-256 of ``manifest.json``.
    """

    path: Path
    manifest: Manifest
    sha256: str

    def read_model(self) -> bytes:
        """The ONNX bytes, checked again: the file may have changed since it was verified.

        Raises
        ------
        PackageError
            If they do not have the SHA-256 of the manifest.
        """
        path = self.path / MODEL_NAME
        try:
            content = path.read_bytes()
        except OSError as error:
            raise PackageError(str(path), f"cannot be read: {error.strerror}") from None
        if sha256_of_bytes(content) != self.manifest.files[MODEL_NAME]:
            raise PackageError(str(path), "was changed after the package was verified")
        return content


def write_package(
    folder: Path, *, model: Path, manifest: Manifest, signing_key: Path | None = None
) -> str:
    """Write and sign a package; an old one in its place is replaced only at the end.

    Parameters
    ----------
    folder : Path
    model : Path
        An ONNX file with all its weights inside.
    manifest : Manifest
        ``files`` is filled in here.
    signing_key : Path or None
        Private key; None takes the one of ``VISIONLOOP_SIGNING_KEY``.

    Returns
    -------
    str
        The package's SHA-256.

    Raises
    ------
    PackageError
        If the model is a pickle, an archive, cut off, or keeps weights in other files.
    InputError
        If there is no usable signing key.
    """
    content = _read_model(model)
    key = signing_key if signing_key is not None else signing.signing_key()
    manifest = manifest.model_copy(update={"files": {MODEL_NAME: sha256_of_bytes(content)}})
    with replace_folder(folder) as staging:
        write_bytes(staging / MODEL_NAME, content)
        written = write_json(staging / MANIFEST_NAME, manifest.as_json())
        signing.sign_folder(staging, key=key)
        sha256 = sha256_of_file(written)
    return sha256  # noqa: RET504 (only once the folder is in its place)


def load_package(folder: Path, *, trusted_keys: Sequence[Path] | None = None) -> ModelPackage:
    """Verify a package and read its manifest. The model itself is not started here.

    Parameters
    ----------
    folder : Path
    trusted_keys : sequence of Path or None
        Public keys; None takes those of ``VISIONLOOP_TRUSTED_KEYS``.

    Raises
    ------
    PackageError
        If it is unsigned, changed, signed by somebody else, holds links or files that
        the manifest does not name, or a model that must not be loaded.
    """
    folder = Path(folder)
    if folder.is_file():
        _read_model(folder)
        raise PackageError(str(folder), "is a file; a package is a folder", REFUSED_HINT)
    if not folder.is_dir():
        raise PackageError(str(folder), "there is no such folder", REFUSED_HINT)
    _refuse_dangerous_files(folder)
    signing.verify_folder(
        folder, keys=list(trusted_keys) if trusted_keys is not None else signing.trusted_keys()
    )
    manifest, sha256 = _read_manifest(folder)
    problems = _check_files(folder, manifest)
    if problems:
        raise PackageError(str(folder), problems, "export the package again, or copy it again")
    _read_model(folder / MODEL_NAME)
    return ModelPackage(folder, manifest, sha256)


def _read_model(path: Path) -> bytes:
    """Bytes of a model file that may be loaded."""
    path = Path(path)
    if path.suffix.lower() in REFUSED_SUFFIXES:
        raise PackageError(
            str(path), f"a {path.suffix} file can run code when it is loaded", REFUSED_HINT
        )
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise PackageError(str(path), "is larger than 2 GiB, the limit of an ONNX file")
        content = path.read_bytes()
    except OSError as error:
        raise PackageError(str(path), f"cannot be read: {error.strerror}") from None
    if problems := find_problems(content):
        raise PackageError(str(path), problems, REFUSED_HINT)
    return content


def _refuse_dangerous_files(folder: Path) -> None:
    """Before anything is opened: links, sub-folders and names of pickles."""
    problems = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            problems.append(f"{name} is a symbolic link")
        elif path.suffix.lower() in REFUSED_SUFFIXES:
            problems.append(f"{name} can run code when it is loaded")
        elif not path.is_file():
            problems.append(f"{name} is not a plain file")
    if problems:
        raise PackageError(str(folder), problems, REFUSED_HINT)


def _read_manifest(folder: Path) -> tuple[Manifest, str]:
    path = folder / MANIFEST_NAME
    try:
        content = path.read_bytes()
        return Manifest.model_validate_json(content), sha256_of_bytes(content)
    except OSError as error:
        raise PackageError(str(path), f"cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in detail['loc']) or 'manifest'}: {detail['msg']}"
            for detail in error.errors()
        ]
        raise PackageError(str(path), problems, "this version reads format_version 1") from None


def _check_files(folder: Path, manifest: Manifest) -> list[str]:
    """Compare what is there with what the manifest names."""
    present = {path.name for path in folder.iterdir()} - {MANIFEST_NAME, signing.SIGNATURE_NAME}
    named = set(manifest.files)
    problems = [f"{name} is not named by the manifest" for name in sorted(present - named)]
    problems += [f"{name} is missing" for name in sorted(named - present)]
    if named != {MODEL_NAME}:
        problems.append(f"the manifest must name {MODEL_NAME} and nothing else")
    for name in sorted(named & present):
        if sha256_of_file(folder / name) != manifest.files[name]:
            problems.append(f"{name} does not have the SHA-256 of the manifest")
    return problems

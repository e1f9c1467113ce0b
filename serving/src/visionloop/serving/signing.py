"""Signatures over folders with an elliptic-curve key (OpenSSF model-signing).

A signature covers the name and SHA-256 of every file below the folder except the
signature itself, so that a changed, added, missing or renamed file is refused.
https://github.com/sigstore/model-transparency
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionloop.core.errors import InputError, MissingExtraError, PackageError
from visionloop.core.files import write_bytes

__all__ = [
    "SIGNATURE_NAME",
    "new_key_pair",
    "sign_bytes",
    "sign_folder",
    "signing_key",
    "trusted_keys",
    "verify_bytes",
    "verify_folder",
]

SIGNATURE_NAME = "model.sig"
PRIVATE_NAME = "signing-key.pem"
PUBLIC_NAME = "signing-key.pub.pem"

KEYS_HINT = (
    "visionloop keys new makes a pair; then set VISIONLOOP_SIGNING_KEY (who signs) and "
    "VISIONLOOP_TRUSTED_KEYS (who verifies)"
)


def new_key_pair(folder: Path) -> tuple[Path, Path]:
    """Make an EC key pair (prime256v1); the private key is readable by its owner only.

    Returns
    -------
    (private key, public key)
        Paths of the two PEM files.

    Raises
    ------
    InputError
        If the folder lies inside a git repository or already holds a key.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = Path(folder).absolute()
    for parent in (folder, *folder.parents):
        if (parent / ".git").exists():
            raise InputError(
                str(folder),
                f"lies inside the git repository {parent}: a private key must not be committed",
                "choose a folder outside it, for example ~/.config/visionloop/keys",
            )
    private_path, public_path = folder / PRIVATE_NAME, folder / PUBLIC_NAME
    if private_path.exists() or public_path.exists():
        raise InputError(
            str(folder), "already holds a key; nothing was changed", "choose another folder"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bytes(private_path, private, mode=0o600)
    write_bytes(public_path, public)
    return private_path, public_path


def signing_key() -> Path:
    """The private key named by ``VISIONLOOP_SIGNING_KEY``.

    Raises
    ------
    InputError
        If it is not set or there is no such file.
    """
    value = os.environ.get("VISIONLOOP_SIGNING_KEY", "")
    if not value:
        raise InputError("VISIONLOOP_SIGNING_KEY", "is not set: nothing can be signed", KEYS_HINT)
    path = Path(value).expanduser()
    if not path.is_file():
        raise InputError("VISIONLOOP_SIGNING_KEY", f"there is no file {path}", KEYS_HINT)
    return path


def trusted_keys() -> list[Path]:
    """The public keys of ``VISIONLOOP_TRUSTED_KEYS``, separated as in PATH.

    Raises
    ------
    InputError
        If none is set or a file is missing.
    """
    values = [v for v in os.environ.get("VISIONLOOP_TRUSTED_KEYS", "").split(os.pathsep) if v]
    if not values:
        raise InputError("VISIONLOOP_TRUSTED_KEYS", "is not set: no key is trusted", KEYS_HINT)
    paths = [Path(value).expanduser() for value in values]
    missing = [f"there is no file {path}" for path in paths if not path.is_file()]
    if missing:
        raise InputError("VISIONLOOP_TRUSTED_KEYS", missing, KEYS_HINT)
    return paths


def sign_folder(folder: Path, *, key: Path, signature_name: str = SIGNATURE_NAME) -> Path:
    """Sign every file below a folder.

    Parameters
    ----------
    folder : Path
    key : Path
        Private key, PEM.
    signature_name : str
        File that is written inside the folder; an old one is replaced.

    Raises
    ------
    InputError
        If the key cannot be used.
    """
    signing = _import_model_signing("signing")
    signature = Path(folder) / signature_name
    signature.unlink(missing_ok=True)
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=Path(key))
        config.set_hashing_config(_hashing(signature_name)).sign(Path(folder), signature)
    except Exception as error:
        raise InputError(
            str(folder), f"could not be signed with {key}: {_short(error)}", KEYS_HINT
        ) from error
    return signature


def verify_folder(
    folder: Path, *, keys: Sequence[Path], signature_name: str = SIGNATURE_NAME
) -> Path:
    """Check a folder's signature against public keys.

    Returns
    -------
    Path
        The key that verified it.

    Raises
    ------
    PackageError
        If there is no signature, or no key verifies it: a file was changed, added,
        removed or renamed, or somebody else signed.
    """
    folder = Path(folder)
    signature = folder / signature_name
    if not signature.is_file():
        raise PackageError(
            str(folder), f"is not signed: there is no {signature_name}", "take a signed one"
        )
    links = [file for file in folder.rglob("*") if file.is_symlink()]
    if links:
        raise PackageError(str(folder), [f"{link} is a symbolic link" for link in links])
    if not keys:
        raise PackageError(str(folder), "no key is trusted", KEYS_HINT)
    verifying = _import_model_signing("verifying")
    problems = []
    for key in keys:
        # model-signing raises ValueError, InvalidSignature, KeyError, JSONDecodeError, ...:
        # whatever it says, the folder is not verified.
        try:
            config = verifying.Config().use_elliptic_key_verifier(public_key=Path(key))
            config.set_hashing_config(_hashing(signature_name)).verify(folder, signature)
            return Path(key)
        except Exception as error:
            problems.append(f"{Path(key).name} does not verify it: {_reason(error)}")
    raise PackageError(
        str(folder),
        problems,
        "do not use it: files were changed after signing, or the signer is not trusted",
    )


def _hashing(signature_name: str) -> Any:
    """Hash everything but the signature; by default ``.git*`` would be left out too."""
    hashing = _import_model_signing("hashing")
    return hashing.Config().set_ignored_paths(paths=[signature_name], ignore_git_paths=False)


def _import_model_signing(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"model_signing.{module}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "signatures",
            f"need the library '{error.name}', which is not installed",
            "install it: pip install 'visionloop[edge]'",
        ) from error


def sign_bytes(content: bytes, *, key: Path) -> str:
    """Sign bytes that are not a folder: ECDSA over SHA-256, base64.

    Raises
    ------
    InputError
        If the key cannot be used.
    """
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        private = serialization.load_pem_private_key(Path(key).read_bytes(), password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError("it is not an elliptic-curve key")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(str(key), f"is no usable key: {_short(error)}", KEYS_HINT) from error
    return base64.b64encode(private.sign(content, ec.ECDSA(hashes.SHA256()))).decode()


def verify_bytes(content: bytes, signature: str, *, keys: Sequence[Path], subject: str) -> None:
    """Check what :func:`sign_bytes` wrote.

    Raises
    ------
    PackageError
        If no key verifies it.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    for key in keys:
        try:
            public = serialization.load_pem_public_key(Path(key).read_bytes())
            if isinstance(public, ec.EllipticCurvePublicKey):
                public.verify(
                    base64.b64decode(signature, validate=True), content, ec.ECDSA(hashes.SHA256())
                )
                return
        except (OSError, ValueError, InvalidSignature):
            continue
    raise PackageError(
        subject,
        f"the signature does not fit: {len(keys)} trusted keys were tried",
        "do not use it: it was changed after signing, or the signer is not trusted",
    )


def _reason(error: Exception) -> str:
    """The library's message in plain words, where it is one of those that we know."""
    text = str(error)
    kind = type(error).__name__
    if changed := re.findall(r"Hash mismatch for '([^']*)'", text):
        return f"changed after signing: {', '.join(changed)}"
    if added := re.findall(r"Extra files found in model '[^']*': ([^\"]*)", text):
        return f"added after signing: {', '.join(added)[:200]}"
    if missing := re.findall(r"Missing files in model '[^']*': ([^\"]*)", text):
        return f"missing since signing: {', '.join(missing)[:200]}"
    if kind == "InvalidSignature":
        return "the signature was changed"
    if "Key mismatch" in text:
        return "another key signed it"
    if kind in ("JSONDecodeError", "KeyError", "ParseError"):
        return "the signature file is damaged"
    return _short(error)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or "it does not match"
    return f"{type(error).__name__}: {text[:200]}"

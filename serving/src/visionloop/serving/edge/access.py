"""Who the device talks to over the network: addresses that are safe, and the tokens for them."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from visionloop.core.errors import ConfigError

__all__ = ["check_address", "read_token"]


def read_token(subject: str, token_env: str, token_file: str, *, root: Path) -> str:
    """The token as it is now; empty where neither a variable nor a file is named.

    Parameters
    ----------
    subject : str
        Whose, for a message.
    token_env, token_file : str
        Environment variable, else a file relative to ``root``.
    root : Path

    Raises
    ------
    ConfigError
        If it is not where the parameters say.
    """
    if token_env:
        token = os.environ.get(token_env)
        if token is None:
            raise ConfigError(subject, f"the environment variable {token_env} is not set")
        return token
    if not token_file:
        return ""
    path = root / token_file
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(
            subject,
            f"the token file {path} cannot be read",
            "write the token into it, and nothing else",
        ) from None


def check_address(
    subject: str, address: str, safe: str, plain: str, *, is_plain_allowed: bool
) -> None:
    """Refuse addresses of another scheme, and plain ones that leave this machine.

    Parameters
    ----------
    subject : str
        Whose, for a message.
    address : str
    safe, plain : str
        Schemes: encrypted, and not.
    is_plain_allowed : bool
        Beyond loopback.

    Raises
    ------
    ConfigError
        Naming the subject.
    """
    parts = urlsplit(address)
    if parts.scheme not in (safe, plain) or not parts.hostname:
        raise ConfigError(subject, f"its address must begin with {safe}://")
    if parts.username or parts.password:
        raise ConfigError(
            subject, "its address holds a password", "use token_env or token_file instead"
        )
    is_here = parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")
    if parts.scheme == plain and not (is_here or is_plain_allowed):
        raise ConfigError(
            subject,
            f"{plain}:// would send its token, and all else, unencrypted",
            f"use {safe}://, or set allow_plaintext: true for a network that you trust",
        )

"""Who may ask: bearer tokens, compared in a time that tells nothing."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from visionloop.core.errors import InputError
from visionloop.core.files import write_text

__all__ = ["TOKEN_VARIABLE", "Tokens", "load_tokens"]

TOKEN_VARIABLE = "VISIONLOOP_HTTP_TOKEN"
SHORTEST = 16


class Tokens:
    """The tokens that open the server; several at once while one is exchanged for another.

    Parameters
    ----------
    tokens : iterable of str
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests = [_digest(token.encode()) for token in tokens]

    def __repr__(self) -> str:
        return f"Tokens({len(self._digests)})"

    def accept(self, authorization: bytes) -> bool:
        """Whether the value of an ``Authorization`` header carries one of them.

        Digests are compared, so neither length nor content of a token shows in the time;
        each one is compared, so neither does which of them it was.
        """
        kind, _, given = authorization.partition(b" ")
        digest = _digest(given.strip())
        found = [hmac.compare_digest(digest, one) for one in self._digests]
        return kind.lower() == b"bearer" and any(found)


def load_tokens(folder: Path) -> tuple[Tokens, Path | None]:
    """The tokens of ``VISIONLOOP_HTTP_TOKEN``, else those of the file ``token`` in a folder.

    In both, several are separated by white space. A file that is missing is made, mode
    0600, with one token made at random.

    Returns
    -------
    (Tokens, Path or None)
        The file they came from.

    Raises
    ------
    InputError
        If there is none, or one is too short to be a secret.
    """
    path = folder / "token"
    given = os.environ.get(TOKEN_VARIABLE)
    if given is None and not path.is_file():
        write_text(path, secrets.token_urlsafe(32) + "\n", mode=0o600)
    found = (given if given is not None else path.read_text()).split()
    where = TOKEN_VARIABLE if given is not None else str(path)
    if not found:
        raise InputError(where, "holds no token", "remove it, and a token is made")
    if any(len(token) < SHORTEST for token in found):
        raise InputError(
            where, f"a token has fewer than {SHORTEST} characters", "take a longer one"
        )
    return Tokens(found), None if given is not None else path


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()

"""``visionloop serve hub``: the receiving end as a server."""

from __future__ import annotations

from pathlib import Path

from visionloop.core.errors import ConfigError
from visionloop.core.progress import say_step
from visionloop.serving.hub.database import open_database
from visionloop.serving.hub.ingest import create_app

__all__ = ["serve_hub"]

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve_hub(
    *,
    database: str,
    host: str = "127.0.0.1",
    port: int = 8460,
    certificate: Path | None = None,
    key: Path | None = None,
    behind_proxy: bool = False,
    releases: Path | None = None,
) -> None:
    """Serve until it is stopped.

    Parameters
    ----------
    database : str
        URL, as for :func:`open_database`.
    host, port
        Loopback unless told otherwise.
    certificate, key : Path or None
        PEM files; without them only loopback is served, or a proxy that ends TLS.
    behind_proxy : bool
        Something in front ends TLS.
    releases : Path or None
        Folder of releases that devices may fetch.

    Raises
    ------
    ConfigError
        If events would travel unencrypted, or a file is missing.
    """
    if (certificate is None) != (key is None):
        raise ConfigError("hub", "needs both a certificate and its key, or neither")
    if releases is not None and not releases.is_dir():
        raise ConfigError(str(releases), "there is no such folder")
    for file in filter(None, (certificate, key)):
        if not file.is_file():
            raise ConfigError(str(file), "there is no such file")
    if host not in LOOPBACK and certificate is None and not behind_proxy:
        raise ConfigError(
            f"hub on {host}",
            "devices would send tokens and events unencrypted",
            "give --certificate and --key, or --behind-proxy where a proxy ends TLS",
        )
    import uvicorn

    app = create_app(open_database(database), releases=releases)
    scheme = "http" if certificate is None else "https"
    say_step(f"hub: {scheme}://{host}:{port}/v1/events")
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        ssl_certfile=None if certificate is None else str(certificate),
        ssl_keyfile=None if key is None else str(key),
        timeout_graceful_shutdown=10,
    )

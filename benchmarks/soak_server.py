"""Plays files as RTSP cameras for ``soak.py``; run by the system's Python (gst-rtsp-server).

``python3 soak_server.py PORT FILE...`` serves ``/1`` to ``/N``, each viewer from the beginning and
at the pace of the file. "ready" is printed when it listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main() -> None:
    """Serve until killed."""
    port, *files = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    for number, path in enumerate(files, 1):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(
            f'( filesrc location="{path}" ! qtdemux ! h264parse ! '
            "rtph264pay name=pay0 pt=96 config-interval=-1 )"
        )
        server.get_mount_points().add_factory(f"/{number}", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


main()

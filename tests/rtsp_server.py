"""An RTSP server whose pictures say where they come from; run by the system's Python.

``python3 rtsp_server.py PORT CAMERAS [--address A] [--user U --password P] [--fps N]``
serves ``/1`` to ``/CAMERAS``. A picture is 320 x 240 and grey; its upper half holds 20 bars,
black or white, most significant first: 4 of the camera's number and 16 of the picture's. The
lower half changes its pattern every 10 pictures. Camera 16 reads as 0. "ready" is printed when
it listens.
"""

import argparse
import random

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

WIDTH, HEIGHT, BARS = 320, 240, 20
KEY_INTERVAL = 5


def draw(camera: int, number: int) -> bytes:
    """The grey picture of a camera's nth frame."""
    bits = f"{camera % 16:04b}{number % 65536:016b}"
    line = b"".join((b"\xeb" if bit == "1" else b"\x10") * (WIDTH // BARS) for bit in bits)
    pattern = random.Random(camera * 100_003 + number // 10)
    tiles = b""
    for _ in range(4):
        row = b"".join(bytes([pattern.randrange(40, 216)]) * 40 for _ in range(8))
        tiles += row * (HEIGHT // 8)
    return line * (HEIGHT // 2) + tiles


class Camera(GstRtspServer.RTSPMediaFactory):
    """One stream, encoded once for all who watch it."""

    def __init__(self, camera: int, fps: int, role: str) -> None:
        super().__init__()
        self.camera, self.fps = camera, fps
        caps = f"video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate={fps}/1"
        self.set_launch(
            f"( appsrc name=pictures is-live=true format=time block=true caps={caps} "
            "! videoconvert ! video/x-raw,format=I420 ! x264enc tune=zerolatency "
            f"speed-preset=ultrafast key-int-max={KEY_INTERVAL} bitrate=2000 threads=1 "
            "! rtph264pay name=pay0 pt=96 config-interval=1 )"
        )
        self.set_shared(True)
        self.connect("media-configure", self.begin)
        if role:
            permissions = GstRtspServer.RTSPPermissions()
            for name in ("media.factory.access", "media.factory.construct"):
                permissions.add_permission_for_role(role, name, True)
            self.set_permissions(permissions)

    def begin(self, _factory, media) -> None:
        source = media.get_element().get_by_name("pictures")
        state = {"number": 0}

        def push() -> bool:
            number = state["number"]
            buffer = Gst.Buffer.new_wrapped(draw(self.camera, number))
            buffer.pts = buffer.dts = number * Gst.SECOND // self.fps
            buffer.duration = Gst.SECOND // self.fps
            state["number"] += 1
            return source.emit("push-buffer", buffer) == Gst.FlowReturn.OK

        push()
        timer = GLib.timeout_add(1000 // self.fps, push)
        media.connect("unprepared", lambda _media: GLib.source_remove(timer))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("cameras", type=int)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--fps", type=int, default=10)
    given = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(given.address)
    server.set_service(given.port)
    if given.user:
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        login = GstRtspServer.RTSPAuth()
        login.add_basic(GstRtspServer.RTSPAuth.make_basic(given.user, given.password), token)
        server.set_auth(login)
    role = "viewer" if given.user else ""
    for camera in range(1, given.cameras + 1):
        server.get_mount_points().add_factory(f"/{camera}", Camera(camera, given.fps, role))
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


main()

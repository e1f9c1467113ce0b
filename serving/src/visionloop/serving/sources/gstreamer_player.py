"""Plays a GStreamer pipeline and writes its pictures to standard output, as YUV4MPEG2.

Run by the system's Python, which has GStreamer's bindings (``python3-gi``); the pipeline comes
on standard input, so that no password stands in the list of processes.
"""

import sys

__all__ = ["main"]


def main() -> int:
    """Play until the pipeline ends or fails."""
    import gi

    gi.require_version("Gst", "1.0")
    from gi.repository import Gst

    Gst.init(None)
    text = sys.stdin.read()
    # One frame of queue, dropping the old: who reads slowly gets the newest.
    sink = (
        "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0 "
        "! videoconvert ! video/x-raw,format=I420 ! y4menc ! fdsink fd=1 sync=false"
    )
    try:
        pipeline = Gst.parse_launch(f"{text} ! {sink}")
    except Exception as error:
        print(error, file=sys.stderr)
        return 2
    pipeline.set_state(Gst.State.PLAYING)
    wanted = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, wanted)
    pipeline.set_state(Gst.State.NULL)
    if message.type == Gst.MessageType.ERROR:
        print(message.parse_error()[0].message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

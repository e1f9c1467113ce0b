"""Images that come in by themselves: cameras, schedules, frames of the edge."""

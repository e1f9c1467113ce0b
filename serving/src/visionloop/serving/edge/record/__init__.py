"""What was seen, kept: frames and events in one database, pictures and clips beside it."""

"""Where frames come from: folders, video files, cameras; for the edge and for collection."""

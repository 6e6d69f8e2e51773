"""What made a picture: written into its file, read from this and other tools' files."""

from darkroom.tasks.metadata.found import Found
from darkroom.tasks.metadata.reading import read_picture

__all__ = ["Found", "read_picture"]

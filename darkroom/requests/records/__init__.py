"""What made a picture: written into its file, read from this and other tools' files."""

from darkroom.requests.records.controls import recalled
from darkroom.requests.records.found import Found
from darkroom.requests.records.reading import read_picture

__all__ = ["Found", "read_picture", "recalled"]

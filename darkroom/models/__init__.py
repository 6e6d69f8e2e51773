"""Whole networks, one a file, the configuration dataclass above the class that it configures."""

"""What configurations of networks with levels of resolution have in common."""

from collections.abc import Sequence

from darkroom.errors import require

__all__ = ["require_levels"]


def require_levels(channel_mult: Sequence[int], **tuples: Sequence[object]) -> None:
    """`InputError` unless there is a level and each of `tuples`, by name, has one entry per level."""
    require(len(channel_mult) > 0, "channel_mult", "empty", "one entry per level")
    for name, entries in tuples.items():
        require(
            len(entries) == len(channel_mult),
            f"the length of {name}",
            len(entries),
            f"{len(channel_mult)}, as of channel_mult",
        )

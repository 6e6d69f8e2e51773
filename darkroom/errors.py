"""The one exception that users see, and how texts from outside stand in it."""

__all__ = ["InputError", "printable", "require"]

LONGEST = 2000  # characters of a message; names inside are shortened sooner, where they are put in


class InputError(ValueError):
    """Something given from outside is wrong: an argument, a file, a recipe.

    The message is one sentence that names the offending value and what would be accepted; what could steer a terminal
    in it is escaped. The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, LONGEST))


def require(holds: bool, name: str, value: object, wanted: str) -> None:
    """`InputError` that `name` has a `value` other than what is `wanted`, unless the condition `holds`."""
    if not holds:
        raise InputError(f"{name} is {value}, expected is {wanted}")


def printable(text: object, limit: int = 80) -> str:
    r"""`text` from a file as a terminal may see it: on one line, at most `limit` characters of it and an ellipsis.

    Characters that steer a terminal or turn the direction of writing become escapes such as `\x1b`.
    """
    text = str(text)
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:limit])
    return "".join(escaped) + "…" * (len(text) > limit)

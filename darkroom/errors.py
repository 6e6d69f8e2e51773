"""The one exception that users see, and how texts from outside and causes stand in it."""

import re
from json import JSONDecodeError

__all__ = ["InputError", "cause", "printable", "require"]

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


def cause(error: BaseException) -> str:
    """What was wrong by `error`, for the end of an `InputError`'s sentence: without what only Python's users know."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, JSONDecodeError):
        return f"{error.msg[0].lower()}{error.msg[1:]} in line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not {error.encoding.upper()} text (byte {error.start})"
    if isinstance(error, KeyError) and error.args:
        return f"{printable(error.args[0])} is missing"
    text = " ".join(str(error).split())
    for pattern, words in _SAID:
        if found := re.search(pattern, text):
            return found.expand(words)
    return next((words for kind, words in _KINDS if isinstance(error, kind)), None) or printable(text, 200)


_SAID = (
    (r"^invalid literal for int\(\) with base \d+: (.{1,80})", r"\1 is no whole number"),
    (r"^could not convert string to float: (.{1,80})", r"\1 is no number"),
    (r"^Could not determine home directory", "there is no such user, or no home is known"),
    (r"inline_container.* unexpected pos", "the disk is full"),  # PyTorch's, where a file became no longer
    (r"set_int_max_str_digits", "a number has too many digits"),
    (r"^cannot convert float .* to integer", "a number is not finite"),
    (r"^(not enough|too many) values to unpack", "a list has another length than expected"),
)
_KINDS = (
    (RecursionError, "it is nested too deeply"),
    (MemoryError, "it takes more memory than there is"),
    (UnicodeError, "a text holds what is no character"),
    ((TypeError, AttributeError), "a value is of another type than expected"),
    (LookupError, "a list is shorter than expected"),
    (ArithmeticError, "its numbers do not fit each other"),
)

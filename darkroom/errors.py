"""The one exception that users see."""

__all__ = ["InputError", "insist"]


class InputError(ValueError):
    """Something given from outside is wrong: an argument, a file, a recipe.

    The message is one sentence that names the offending value and what would be accepted.
    The command line prints it without a traceback and exits with status 2.
    """


def insist(holds: bool, name: str, value: object, wanted: str) -> None:
    """`InputError` that `name` has a `value` other than what is `wanted`, unless the condition `holds`."""
    if not holds:
        raise InputError(f"{name} is {value}, wanted is {wanted}")

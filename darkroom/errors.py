"""The one exception that users see."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Something given from outside is wrong: an argument, a file, a recipe.

    The message is one sentence that names the offending value and what would be accepted.
    The command line prints it without a traceback and exits with status 2.
    """

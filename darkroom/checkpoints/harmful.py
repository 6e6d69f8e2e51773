"""Names by which a pickle would run programs or write files. No checkpoint has any business with them."""

from __future__ import annotations

__all__ = ["is_harmful"]

ANYWHERE = {"os", "posix", "nt", "subprocess"}  # a name may reach them through a third module
MODULES = {"commands", "shutil", "socket", "sys", "runpy", "pty", "importlib", "ctypes", "webbrowser", "urllib"}
MODULES |= {"requests", "http", "pickle", "_pickle", "pip", "pdb", "bdb"}
HOMES = {"builtins", "__builtin__", "__builtins__", "io", "_io"}  # of the functions, among much that is harmless
FUNCTIONS = {"eval", "exec", "execfile", "compile", "open", "open_code", "file", "__import__", "breakpoint"}


def is_harmful(name: str) -> bool:
    """Whether "module.attribute" is something by which a pickle would do harm if anybody looked it up."""
    pieces = name.split(".")
    if len(pieces) > 1 and pieces[-2] in HOMES:
        return pieces[-1] in FUNCTIONS
    return pieces[0] in MODULES or not ANYWHERE.isdisjoint(pieces) or name.startswith("torch.hub.")

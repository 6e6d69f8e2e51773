"""A request that a picture was found to have, with some of its settings changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from darkroom.requests.change import changed
from darkroom.types import Request

__all__ = ["repeated"]


def repeated(found: Request, values: Mapping[str, Any]) -> Request:
    """`found` with `values`, by paths of settings, in place of what it says; what they make meaningless goes.

    Another sampler takes neither the options of the one before nor its schedule where its name carries one, another
    schedule not the options of the one before; another number of steps or schedule rules over given noise levels.
    """
    if "sampler" in values:
        from darkroom.names import split_name

        found = replace(found, sampler_options={})
        if split_name(values["sampler"])[1] is not None and "schedule" not in values:
            found = replace(found, schedule=None, schedule_options={})
    if "schedule" in values:
        found = replace(found, schedule_options={})
    if "sigmas" not in values and values.keys() & {"steps", "schedule"}:
        found = replace(found, sigmas=None)
    return changed(found, values)

"""From nothing but noise."""

from darkroom.tasks.task import Situation, Start, Task

__all__ = ["TEXT_TO_IMAGE", "start"]


def start(s: Situation) -> Start:
    """Unit noise at the first level."""
    return Start(s.noise * s.plan.stepping.starting_scale(s.plan.sigmas[0]))


TEXT_TO_IMAGE = Task("text to image", lambda s: True, start)

"""All tasks; a request is the first one's that it fits."""

from darkroom.tasks.continuation import CONTINUATION
from darkroom.tasks.image_to_image import IMAGE_TO_IMAGE, SECOND_PASS
from darkroom.tasks.inpaint import INPAINT
from darkroom.tasks.task import Situation, Start, Task
from darkroom.tasks.text_to_image import TEXT_TO_IMAGE

__all__ = ["TASKS", "begin"]

TASKS: tuple[Task, ...] = (SECOND_PASS, INPAINT, CONTINUATION, IMAGE_TO_IMAGE, TEXT_TO_IMAGE)


def begin(situation: Situation) -> Start:
    """The start of the task that `situation` is."""
    return next(task for task in TASKS if task.fits(situation)).start(situation)

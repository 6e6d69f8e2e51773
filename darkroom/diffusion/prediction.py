"""What networks predict, and the words that tools have for it. No torch."""

from __future__ import annotations

from enum import StrEnum

from darkroom.errors import InputError
from darkroom.registry import nearest

__all__ = ["OTHER_WORDS", "Prediction", "find_prediction", "known_prediction"]


class Prediction(StrEnum):
    """What a network is trained to output: the noise, v = sqrt(a) eps − sqrt(1 − a) z0, or the clean latent.

    `Prediction(word)` knows the words of other tools too.
    """

    EPS = "eps"
    V = "v"
    X0 = "x0"

    @classmethod
    def _missing_(cls, value: object) -> Prediction | None:
        return next((cls(name) for name, words in OTHER_WORDS.items() if str(value).lower() in words), None)


OTHER_WORDS = {
    "eps": ("noise", "epsilon"),
    "v": ("velocity", "v_prediction", "v-prediction", "vpred", "v_pred"),
    "x0": ("data", "sample"),
}


def known_prediction(word: object) -> Prediction | None:
    """The prediction that `word` means in any tool's words; None where it means none."""
    try:
        return Prediction(word)
    except ValueError:
        return None


def find_prediction(name: str) -> Prediction:
    """The prediction that `name` means in any tool's words; `InputError` for none."""
    if (found := known_prediction(name)) is None:
        known = [*OTHER_WORDS, *(word for words in OTHER_WORDS.values() for word in words)]
        raise InputError(f"unknown prediction {name!r}; known are: {', '.join(nearest(name, known))}")
    return found

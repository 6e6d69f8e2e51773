import pytest

from darkroom.errors import InputError
from darkroom.training.caption_fit import caption_fault


def test_words_are_unknown_or_too_many() -> None:
    fault = caption_fault("picturebook")
    assert fault("a red house") is None
    assert fault("a red skyscraper at dawn") == "words that the model does not know: skyscraper, dawn"
    assert fault("red " * 60) == "60 tokens, of which the model reads 39"


def test_systems_that_read_none() -> None:
    with pytest.raises(InputError, match="the system ldm_celeba256 reads no captions"):
        caption_fault("ldm_celeba256")

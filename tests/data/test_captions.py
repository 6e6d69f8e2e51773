import numpy as np
import pytest

from darkroom.data.captions import CaptionConfig, all_captions, draw_caption
from darkroom.errors import InputError


def draws(text: str, config: CaptionConfig, count: int = 200) -> list[str]:
    return [draw_caption(text, config, np.random.default_rng(i)) for i in range(count)]


def test_a_plain_caption_is_its_first_line() -> None:
    assert set(draws(" a red cat \nsecond", CaptionConfig())) == {"a red cat"}
    assert set(draws("a, b\nc", CaptionConfig(prefix="photo of", suffix="on a table"))) == {"photo of a, b on a table"}
    assert set(draws("\n", CaptionConfig())) == {""}


def test_of_several_lines_one_is_drawn() -> None:
    assert set(draws("one\n\ntwo\nthree\n", CaptionConfig(lines=True))) == {"one", "two", "three"}


def test_tags_are_shuffled_behind_those_that_are_kept() -> None:
    found = set(draws("x,a, b,c", CaptionConfig(shuffle=True, keep_tokens=1)))
    assert len(found) == 6
    assert all(f.startswith("x, ") and sorted(f.split(", ")) == ["a", "b", "c", "x"] for f in found)
    marked = set(draws("x, y ||| a, b ||| z", CaptionConfig(shuffle=True, keep_separator="|||")))
    assert marked == {"x, y, a, b, z", "x, y, b, a, z"}


def test_captions_and_tags_are_dropped_at_their_rates() -> None:
    assert draws("a", CaptionConfig(drop_rate=0.3), 1000).count("") == pytest.approx(300, abs=50)
    kept = draws("x, a, b, c, d", CaptionConfig(tag_drop_rate=0.25, keep_tokens=1), 500)
    assert all(k.startswith("x") for k in kept)
    assert sum(k.count(",") for k in kept) / 500 == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("name", ["drop_rate", "tag_drop_rate"])
def test_rates_are_shares(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 1.5"):
        CaptionConfig(**{name: 1.5})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "config"),
    [
        (" a \nb", CaptionConfig()),
        ("one\n\ntwo", CaptionConfig(lines=True, prefix="photo of")),
        ("x ||| a, b", CaptionConfig(keep_separator="|||", suffix="end", drop_rate=0.5)),
        ("", CaptionConfig(lines=True, drop_rate=0.5)),
    ],
)
def test_all_captions_are_those_that_are_drawn(text: str, config: CaptionConfig) -> None:
    assert set(all_captions(text, config)) == set(draws(text, config))


def test_shuffled_captions_are_too_many() -> None:
    with pytest.raises(InputError, match=r"captions.shuffle is true, expected is false where all"):
        all_captions("a, b", CaptionConfig(shuffle=True))
    with pytest.raises(InputError, match=r"captions.tag_drop_rate is 0.1, expected is 0 where all must be"):
        all_captions("a, b", CaptionConfig(tag_drop_rate=0.1))

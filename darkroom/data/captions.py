"""From the text beside a picture to the caption of a sample, drawn anew each time (the options are kohya's)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from darkroom.errors import require

__all__ = ["CaptionConfig", "all_captions", "draw_caption"]


@dataclass(frozen=True)
class CaptionConfig:
    """Tags are what stands between separators."""

    shuffle: bool = False  # tags in random order, but those that are kept
    keep_tokens: int = 0  # this many first tags stay in front
    keep_separator: str = ""  # what stands before it is kept, and behind a second one; `|||` is usual
    separator: str = ","
    prefix: str = ""
    suffix: str = ""
    lines: bool = False  # of several lines one is drawn; otherwise the first line is the caption
    drop_rate: float = 0.0  # share of samples whose caption is empty
    tag_drop_rate: float = 0.0  # share of tags that are left out, but those that are kept

    def __post_init__(self) -> None:
        for name in ("drop_rate", "tag_drop_rate"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a share from 0 to 1")
        require(self.keep_tokens >= 0, "keep_tokens", self.keep_tokens, "0 or more")
        require(self.separator != "", "separator", "empty", "at least one character")


def draw_caption(text: str, config: CaptionConfig, rng: np.random.Generator) -> str:
    """The caption that `text` gives this time."""
    if config.drop_rate and rng.random() < config.drop_rate:
        return ""
    lines = _lines(text, config)
    line = lines[int(rng.integers(len(lines)))] if len(lines) > 1 else lines[0]
    shuffled = config.shuffle or config.tag_drop_rate
    return _framed(_shuffled(line, config, rng), config) if shuffled else _plain(line, config)


def all_captions(text: str, config: CaptionConfig) -> list[str]:
    """All captions that `text` may give; `InputError` where tags are shuffled or left out, which gives too many."""
    require(not config.shuffle, "captions.shuffle", "true", "false where all captions must be known before")
    require(
        not config.tag_drop_rate, "captions.tag_drop_rate", config.tag_drop_rate, "0 where all must be known before"
    )
    found = [_plain(line, config) for line in _lines(text, config)]
    return ["", *found] if config.drop_rate else found


def _lines(text: str, config: CaptionConfig) -> list[str]:
    """Those of which one is drawn."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return lines if config.lines else lines[:1]


def _plain(line: str, config: CaptionConfig) -> str:
    if config.keep_separator:
        line = line.replace(config.keep_separator, config.separator)
    return _framed(line, config)


def _framed(line: str, config: CaptionConfig) -> str:
    return " ".join(part for part in (config.prefix, line, config.suffix) if part)


def _shuffled(line: str, config: CaptionConfig, rng: np.random.Generator) -> str:
    parts = [_tags(p, config) for p in line.split(config.keep_separator, 2)] if config.keep_separator else []
    if len(parts) > 1:
        kept, free, end = parts[0], parts[1], parts[2] if len(parts) > 2 else []
    else:
        tags = _tags(line, config)
        kept, free, end = tags[: config.keep_tokens], tags[config.keep_tokens :], []
    if config.shuffle:
        free = [free[i] for i in rng.permutation(len(free))]
    if config.tag_drop_rate:
        free = [tag for tag in free if rng.random() >= config.tag_drop_rate]
    return f"{config.separator} ".join([*kept, *free, *end])


def _tags(text: str, config: CaptionConfig) -> list[str]:
    return [tag.strip() for tag in text.split(config.separator) if tag.strip()]

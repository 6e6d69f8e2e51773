"""Whether captions fit the text encoder of a system: too long ones are cut, unknown words are not heard."""

from __future__ import annotations

from collections.abc import Callable

from darkroom.conditioning.bert_text import BertTextConfig
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.conditioning.word_text import WordTextConfig
from darkroom.errors import InputError
from darkroom.models.bert_tokenizer import BertTokenizer
from darkroom.models.clip_tokenizer import ClipTokenizer
from darkroom.models.tokenizer import WordTokenizer
from darkroom.systems.system import SYSTEMS

__all__ = ["caption_fault"]


def caption_fault(system: str) -> Callable[[str], str | None]:
    """fault(caption): what the text encoder of the catalogue's `system` does not hear of it, None if it hears all."""
    for config in SYSTEMS[system].embedders:
        match config:
            case WordTextConfig():
                words = WordTokenizer(config.words, config.length)
                return lambda text: _long(len(words.split(text)), words.length - 1) or _unknown(words.unknown(text))
            case ClipTextEmbedderConfig():
                clip = ClipTokenizer(config.towers[0].tower.length, config.towers[0].padding)
                return lambda text: _long(len(clip.tokens(text)), clip.length - 2)
            case BertTextConfig():
                bert = BertTokenizer(config.length)
                return lambda text: _long(len(bert.numbers(text)), bert.length - 2)
    raise InputError(f"the system {system} reads no captions")


def _long(found: int, most: int) -> str | None:
    return f"{found} tokens, of which the model reads {most}" if found > most else None


def _unknown(words: list[str]) -> str | None:
    return f"words that the model does not know: {', '.join(words[:8])}" if words else None

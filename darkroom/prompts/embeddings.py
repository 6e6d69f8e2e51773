"""Words of a prompt that embeddings stand for: A1111's bare names and ComfyUI's `embedding:name`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from darkroom.checkpoints.embeddings import EmbeddingFolders
from darkroom.conditioning.caption import CaptionConfig
from darkroom.conditioning.embedding import Embedding
from darkroom.errors import InputError, printable
from darkroom.prompts.tree import Alternate, Edit, Learned, Node, Prompt, Sentence, Text, Weighted
from darkroom.registry import nearest

__all__ = ["embeddings_of", "with_embeddings"]

MARK = re.compile(r"\bembedding:(?=\S)", re.IGNORECASE)
NAMED = re.compile(r"[^\s,()\[\]|]+")  # what may be a name behind the mark


def with_embeddings(prompt: Prompt, folders: EmbeddingFolders, *, bare: bool = True) -> Prompt:
    """`prompt` with the embeddings in `folders` in the places of their names, of any case; the longest name counts.

    A bare name counts where no letter or digit stands right before or behind it, in systems with a text encoder;
    without `bare` only `embedding:name` does.
    Raises `InputError` where `embedding:` names none, and for files that do not fit the system.
    """
    reader = _Names(folders, bare)
    parts = tuple(replace(p, prompt=Sentence(reader.nodes(p.prompt.nodes))) for p in prompt.parts)
    return replace(prompt, parts=parts)


def embeddings_of(prompt: Prompt) -> Iterator[Embedding]:
    """Those that stand in `prompt`, in their order."""
    return (embedding for part in prompt.parts for embedding in _within(part.prompt.nodes))


def _within(nodes: Sequence[Node]) -> Iterator[Embedding]:
    for node in nodes:
        match node:
            case Learned(_, embedding):
                yield embedding
            case Weighted(inside):
                yield from _within(inside)
            case Alternate(options):
                yield from (embedding for option in options for embedding in _within(option))
            case Edit(before, after):
                yield from _within((*before, *after))


class _Names:
    def __init__(self, folders: EmbeddingFolders, bare: bool) -> None:
        self.folders, self.bare = folders, bare
        self.reads = any(isinstance(e, CaptionConfig) for e in folders.system.embedders)
        self.by_start: dict[str, list[str]] = {}  # the first letter of names → names, the longest first
        for name in sorted(folders.names, key=len, reverse=True):
            self.by_start.setdefault(name[:1], []).append(name)

    def nodes(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        result: list[Node] = []
        for node in nodes:
            match node:
                case Text(text):
                    result += self.text(text)
                case Weighted(inside, weight):
                    result.append(Weighted(self.nodes(inside), weight))
                case Alternate(options):
                    result.append(Alternate(tuple(self.nodes(o) for o in options)))
                case Edit(before, after):
                    result.append(replace(node, before=self.nodes(before), after=self.nodes(after)))
                case _:
                    result.append(node)
        return tuple(result)

    def text(self, text: str) -> list[Node]:
        lowered = text.lower()
        if len(lowered) != len(text):  # letters that grow when they become small
            lowered = text
        result: list[Node] = []
        begun = at = 0
        while at < len(text):
            mark = MARK.match(text, at)
            start = at if mark is None else mark.end()
            name = self.name_at(lowered, start) if mark is not None or (self.reads and self.bare) else None
            if mark is not None and (name is None or not self.reads):
                raise self.unknown(text[start:])
            if name is None:
                at += 1
                continue
            embedding = self.folders.get(name)
            assert embedding is not None, "its name is one of the folders'"
            end = start + len(name)
            result += [Text(text[begun:at])] if at > begun else []
            result.append(Learned(text[at:end], embedding))
            begun = at = end
        return [*result, Text(text[begun:])] if begun < len(text) else result

    def name_at(self, text: str, at: int) -> str | None:
        """The longest name that begins at `at` and is no part of a word."""
        if at and _in_word(text[at - 1]) and _in_word(text[at]):
            return None
        for name in self.by_start.get(text[at], ()):
            end = at + len(name)
            if text.startswith(name, at) and not (end < len(text) and _in_word(text[end - 1]) and _in_word(text[end])):
                return name
        return None

    def unknown(self, rest: str) -> InputError:
        found = NAMED.match(rest)
        name = printable(rest[:20] if found is None else found[0])
        if not self.reads:
            return InputError(f"the prompt names the embedding {name!r}, but {self.folders.system.name} reads none")
        known = ", ".join(nearest(name, self.folders.names)[:10]) or "none"
        return InputError(f"unknown embedding {name!r} in the prompt; known are: {known}")


def _in_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"

"""The languages that prompts may be written in. All are brought into A1111's grammar, which this project reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from darkroom.prompts import comfy, compel
from darkroom.prompts.grammar import check_text, parse, take_loras
from darkroom.prompts.tree import LoraTag, Prompt, Sentence, Text
from darkroom.registry import Registry
from darkroom.types import Request

__all__ = ["SYNTAXES", "Syntax", "in_own_syntax", "read_prompt"]


@dataclass(frozen=True)
class Syntax:
    """How one tool reads prompts.

    `translated`: from (a prompt, where to tell what is not taken over, whether it may have several parts) to the prompt
    in A1111's grammar. `emphasis`: how the tool lets weights of words act. `bare_names`: whether it finds embeddings by
    their names alone.
    """

    translated: Callable[[str, list[str], bool], str]
    emphasis: str
    bare_names: bool


def _of_compel(text: str, lost: list[str], composed: bool) -> str:
    prompt, loras = compel.translated(text, lost, composed=composed)
    return "".join(str(LoraTag(name, weight, weight)) for name, weight in loras) + prompt


SYNTAXES: Registry[Syntax] = Registry("prompt syntax")
SYNTAXES.add("a1111", Syntax(lambda text, lost, composed: text, "a1111", True))
SYNTAXES.add("comfy", Syntax(lambda text, lost, composed: comfy.translated(text, lost), "comfy", False), "comfyui")
SYNTAXES.add("compel", Syntax(_of_compel, "compel", False), "invokeai")
SYNTAXES.add("plain", Syntax(lambda text, lost, composed: str(Sentence((Text(text),))), "a1111", True), "diffusers")


def read_prompt(text: str, syntax: str, lost: list[str], *, composed: bool = True) -> Prompt:
    """The prompt that `text` means in `syntax`; `composed` as `parse` has it.

    Tags of LoRAs are read in every syntax, escaped ones as text. `lost` is told what is not taken over.
    """
    return parse(_translated(text, syntax, lost, composed=composed), composed=composed)


def in_own_syntax(request: Request) -> Request:
    """The request that means the same with its prompts in A1111's grammar."""
    syntax = SYNTAXES[request.prompt_syntax]
    if syntax is SYNTAXES["a1111"]:
        return request

    def own(text: str, *, composed: bool = False) -> str:
        return _translated(text, request.prompt_syntax, [], composed=composed)

    return replace(
        request,
        prompt=own(request.prompt, composed=True),
        negative_prompt=own(request.negative_prompt),
        regions=tuple(replace(region, prompt=own(region.prompt)) for region in request.regions),
        prompt_syntax="a1111",
        emphasis=syntax.emphasis if request.emphasis is None else request.emphasis,
    )


def _translated(text: str, syntax: str, lost: list[str], *, composed: bool) -> str:
    if SYNTAXES.name(syntax) == "a1111":
        return text
    check_text(text)
    bare, loras = take_loras(text)
    return "".join(map(str, loras)) + SYNTAXES[syntax].translated(bare, lost, composed)

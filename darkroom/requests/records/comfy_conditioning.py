"""The prompts behind a sampler's inputs in ComfyUI's graphs, through the nodes that change and combine them."""

from __future__ import annotations

from typing import Literal

from darkroom.prompts.comfy import translated
from darkroom.prompts.grammar import MAX_LENGTH
from darkroom.requests.records.comfy_graph import Graph, Link, Node
from darkroom.requests.records.found import Findings

__all__ = ["Prompts"]

Role = Literal["positive", "negative"]

MAX_PARTS = 32  # prompts that one input combines
MAX_NESTED = 100  # nodes that combine behind nodes that combine

# Loaders with both prompts inside, and the roles of their outputs.
_LOADERS: dict[str, dict[int, Role]] = {
    "Efficient Loader": {1: "positive", 2: "negative"},
    "Eff. Loader SDXL": {1: "positive", 2: "negative"},
}
_TEXTS = ("text", "prompt", "t5xxl", "clip_l", "text_positive", "wildcard_text")
_PASSED_ON = ("conditioning", "conditioning_to", "conditioning_1", "positive", "cond", "")


class Prompts:
    """Reads the conditionings of a graph; `found` is told what they say beyond their prompts."""

    def __init__(self, graph: Graph, found: Findings) -> None:
        self.graph, self.found = graph, found
        self.encoders: list[Node] = []  # what made the conditionings that were read, the first of them
        self._known: dict[tuple[Node, int, Role], list[str]] = {}
        self._translated: dict[str, str] = {}

    def read(self, link: Link | None, role: Role) -> str | None:
        """The prompt, in this project's grammar, whose conditioning is `link`; None if none is found.

        Combined conditionings are averaged by ComfyUI: parts of equal weight, joined by AND.
        """
        if link is None:
            return None
        parts = self._parts(link, role, 0)
        if len(parts) == 1 or not parts:
            return parts[0] if parts else None
        if role == "negative":
            self.found.unmapped.append(f"{len(parts) - 1} more negative prompt(s), which are combined with the first")
            return parts[0]
        return " AND ".join(f"{part} :{1 / len(parts):.6g}" for part in parts)

    def _parts(self, link: Link, role: Role, depth: int) -> list[str]:
        passed: list[tuple[Node, int, Role]] = []
        result: list[str] = []
        while True:
            key = (link.node, link.slot, role)
            if key in self._known:  # also where a circle comes back
                result = self._known[key]
                break
            self._known[key] = []
            passed.append(key)
            following = self._step(link, role, depth)
            if isinstance(following, list):
                result = following
                break
            link = following
        if len(result) > MAX_PARTS:
            self.found.unmapped.append(f"prompts beyond the first {MAX_PARTS} that are combined")
            result = result[:MAX_PARTS]
        for key in passed:
            self._known[key] = result
        return result

    def _step(self, link: Link, role: Role, depth: int) -> Link | list[str]:
        """The prompts of an output, or the output that it passes on."""
        node, graph = link.node, self.graph
        if node.kind == "ConditioningZeroOut":
            self.found.unmapped.append(f"ConditioningZeroOut: zeros in place of the {role} prompt; it is left empty")
            return [""]
        if node.kind in ("ConditioningCombine", "ConditioningConcat") and depth < MAX_NESTED:
            return self._combined(node, role, depth)
        if (named := _LOADERS.get(node.kind, {}).get(link.slot)) is not None:
            role = named
            if (text := graph.text(node, role)) is not None:
                return self._encoded(node, text)
        positive, negative = graph.link(node, "positive"), graph.link(node, "negative")
        if positive and negative:  # a node that changes both: its first output is the positive one
            return negative if link.slot == 1 else positive
        if {"text_g", "text_l"} & set(node.inputs):
            return self._two_towers(node)
        if (text := graph.text(node, *_TEXTS)) is not None:
            return self._encoded(node, text)
        if (following := graph.link(node, role, *_PASSED_ON)) is not None:
            return following
        if "text" not in node.inputs and len(sources := graph.sources(node)) == 1:
            return sources[0]
        return []

    def _combined(self, node: Node, role: Role, depth: int) -> list[str]:
        """Several prompts side by side, or each with another behind it."""
        names = ("conditioning_1", "conditioning_2", "conditioning_to", "conditioning_from")
        links = [link for name in names if (link := self.graph.link(node, name)) is not None]
        parts = [self._parts(link, role, depth + 1) for link in links]
        if node.kind == "ConditioningCombine" or len(parts) != 2:
            return [part for each in parts for part in each]
        return self._short([self.graph.join(" BREAK ", [part, *parts[1][:1]]) for part in parts[0]])

    def _two_towers(self, node: Node) -> list[str]:
        """SDXL's encoder: a text for each tower. The request has one for both."""
        large, small = self.graph.text(node, "text_g"), self.graph.text(node, "text_l")
        if large and small and large != small:
            self.found.unmapped.append(f"text_l, a prompt of its own for the smaller tower: {small}")
        return self._encoded(node, large or small or "")

    def _encoded(self, node: Node, text: str) -> list[str]:
        if len(self.encoders) < MAX_PARTS:
            self.encoders.append(node)
        if text not in self._translated:
            self._translated[text] = "".join(translated(short, self.found.unmapped) for short in self._short([text]))
        return [self._translated[text]]

    def _short(self, texts: list[str]) -> list[str]:
        """Those that a prompt can hold."""
        for text in texts:
            if len(text) > MAX_LENGTH:
                self.found.unmapped.append(f"a prompt of {len(text)} characters, accepted are at most {MAX_LENGTH}")
        return [text for text in texts if len(text) <= MAX_LENGTH]

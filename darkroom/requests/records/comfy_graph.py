"""ComfyUI's graphs: nodes, the links between their outputs and inputs, and what is behind an input.

Two forms are read. API graphs, which were run: `{"3": {"class_type": …, "inputs": {"steps": 20, "model": ["4", 0]}}}`.
Workflows of the user interface, whose nodes hold the values of their widgets by order, not by name. Every walk visits a
node at most once, whatever circles a file has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from darkroom.errors import InputError
from darkroom.requests.records.found import listed

__all__ = ["Graph", "Link", "Node", "api_graph", "workflow_graph"]

MAX_JOINED = 1_000_000  # characters that the nodes of a graph may join to texts, all together

# Inputs under which nodes of one text or number hold it; numbered texts are joined.
_TEXTS = ("populated_text", "text", "string", "value", "prompt", "String")
_NUMBERS = ("value", "int", "float", "number", "text", "string")
_SEEDS = ("seed", "noise_seed")
_NUMBERED = re.compile(r"(?:text|string|prompt)_?[a-z0-9]")
_BETWEEN = ("delimiter", "separator")


@dataclass(frozen=True, eq=False)
class Node:
    """`inputs` holds values, or links as [key of a node, number of its output]."""

    kind: str
    inputs: Mapping[str, Any]


class Link(NamedTuple):
    """Output number `slot` of `node`."""

    node: Node
    slot: int


class Graph:
    """Nodes by their keys."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes
        self._texts: dict[Node, str | None] = {}
        self._joined_so_far = 0

    def link(self, node: Node | None, *names: str) -> Link | None:
        """The output behind the first of the inputs `names` that is linked."""
        inputs = {} if node is None else node.inputs
        return next((link for name in names if name in inputs and (link := self._link(inputs[name])) is not None), None)

    def _link(self, value: object) -> Link | None:
        if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int))):
            return None
        source, slot = self.nodes.get(str(value[0])), value[1]
        return Link(source, slot) if source is not None and isinstance(slot, int) else None

    def at(self, node: Node | None, *names: str) -> Node | None:
        """The node behind the first of the inputs `names` that is linked."""
        link = self.link(node, *names)
        return None if link is None else link.node

    def sources(self, node: Node) -> list[Link]:
        """What all inputs of `node` are linked to."""
        return [link for value in node.inputs.values() if (link := self._link(value)) is not None]

    def upstream(self, node: Node | None, *names: str) -> Iterator[Node]:
        """`node`, then what is behind the first of the inputs `names` that is linked, at every hop."""
        seen: set[Node] = set()
        while node is not None and node not in seen:
            seen.add(node)
            yield node
            node = self.at(node, *names)

    def behind(self, node: Node, stop: Callable[[Node], bool], seen: set[Node]) -> Iterator[Node]:
        """The nearest nodes behind `node` that `stop`, nearest first; those in `seen`, which grows, are passed over."""
        level = [node]
        while level:
            following: list[Node] = []
            for each in level:
                if each in seen:
                    continue
                seen.add(each)
                if stop(each):
                    yield each
                else:
                    following += [link.node for link in self.sources(each)]
            level = following

    def value(self, node: Node | None, *names: str) -> str | int | float | None:
        """The number or text of the first of the inputs `names` that has one, through nodes that only pass it on."""
        for name in names:
            found = None if node is None else node.inputs.get(name)
            if isinstance(found, list):
                found = self._passed_on(found, name)
            if isinstance(found, (str, int, float)) and not isinstance(found, bool):
                return found
        return None

    def _passed_on(self, value: object, name: str) -> object:
        seen: set[Node] = set()
        while (link := self._link(value)) is not None and link.node not in seen:
            seen.add(link.node)
            inputs = link.node.inputs
            names = (name, *_NUMBERS, *(_SEEDS if name in _SEEDS else ()))
            held = [inputs[key] for key in names if key in inputs]
            value = held[0] if held else next((v for v in inputs.values() if self._link(v) is not None), None)
        return value

    def text(self, node: Node | None, *names: str) -> str | None:
        """The text of the first of the inputs `names` that has one, joined from several nodes where it was."""
        inputs = {} if node is None else node.inputs
        for name in names:
            if name not in inputs:
                continue
            if isinstance(value := inputs[name], str):
                return value
            if (link := self._link(value)) is not None and (text := self._text_of(link.node)) is not None:
                return text
        return None

    def _text_of(self, start: Node) -> str | None:
        """What `start` gives as text. Nodes are finished from the last to the first, without recursion."""
        stack = [start]
        while stack:
            node = stack[-1]
            first = node not in self._texts
            if first:
                self._texts[node] = None  # where a circle comes back to it
            parts = self._text_parts(node)
            sources = [link.node for part in parts if (link := self._link(part)) is not None]
            waiting = [source for source in sources if source not in self._texts]
            if first and waiting:
                stack += waiting
                continue
            self._texts[node] = self._joined(node, parts)
            stack.pop()
        return self._texts[start]

    def _text_parts(self, node: Node) -> list[object]:
        numbered = sorted(key for key in node.inputs if _NUMBERED.fullmatch(key))
        if len(numbered) > 1:
            return [node.inputs[key] for key in numbered]
        held = [node.inputs[key] for key in _TEXTS if key in node.inputs]
        if held:
            return held[:1]
        return [v for v in node.inputs.values() if self._link(v) is not None][:1]

    def _joined(self, node: Node, parts: list[object]) -> str | None:
        texts: list[str] = []
        for part in parts:
            link = self._link(part)
            text = part if link is None else self._texts.get(link.node)
            if isinstance(text, str):
                texts.append(text)
        if not texts:
            return None
        between = next((d for key in _BETWEEN if isinstance(d := node.inputs.get(key), str)), "")
        return self.join(between.replace("\\n", "\n"), texts)

    def join(self, between: str, texts: Sequence[str]) -> str:
        """`between.join(texts)`; `InputError` once a graph has joined more than any graph needs."""
        joined = between.join(texts)
        self._joined_so_far += len(joined)
        if self._joined_so_far > MAX_JOINED:
            raise InputError(f"the nodes of the graph join texts of more than {MAX_JOINED} characters")
        return joined


def api_graph(table: Mapping[str, Any]) -> Graph:
    """The graph that was run; what is no node in it is left out."""
    nodes = {}
    for key, value in table.items():
        inputs = value.get("inputs") if isinstance(value, dict) else None
        if isinstance(inputs, dict):
            kind = value.get("class_type")
            nodes[key] = Node(kind if isinstance(kind, str) else "", inputs)
    return Graph(nodes)


# The widgets of nodes in the order that workflows hold their values in; "" is one that says nothing about the picture.
_SAMPLING = ("steps", "cfg", "sampler_name", "scheduler")
_WIDGETS = {
    "KSampler": ("seed", "", *_SAMPLING, "denoise"),
    "KSamplerAdvanced": ("add_noise", "noise_seed", "", *_SAMPLING, "start_at_step", "end_at_step", "leftover"),
    "SamplerCustom": ("add_noise", "noise_seed", "", "cfg"),
    "RandomNoise": ("noise_seed", ""),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "KSamplerSelect": ("sampler_name",),
    "CFGGuider": ("cfg",),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeSDXL": (
        *("width", "height", "crop_w", "crop_h", "target_width", "target_height", "text_g", "text_l"),
    ),
    "CLIPTextEncodeSDXLRefiner": ("ascore", "width", "height", "text"),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "LatentUpscale": ("upscale_method", "width", "height", "crop"),
    "LatentUpscaleBy": ("upscale_method", "scale_by"),
    "StringConcatenate": ("string_a", "string_b", "delimiter"),
    "PrimitiveNode": ("value", ""),
}
_MUTED, _BYPASSED = 2, 4  # modes of nodes


def workflow_graph(table: Mapping[str, Any]) -> Graph | None:
    """The graph of a workflow of the user interface; None for a table that is none.

    Muted nodes are left out. Those that are bypassed, and reroutes, pass on their first input of the output's type.
    """
    entries = [n for n in listed(table.get("nodes")) if isinstance(n, dict) and isinstance(n.get("type"), str)]
    if not entries:
        return None
    links: dict[object, tuple[str, int]] = {}
    for link in listed(table.get("links")):
        if isinstance(link, list) and len(link) >= 3 and all(isinstance(v, (int, str)) for v in link[:3]):
            links[link[0]] = (str(link[1]), link[2] if isinstance(link[2], int) else 0)
    nodes: dict[str, Node] = {}
    for entry in entries:
        if entry.get("mode") == _MUTED:
            continue
        inputs: dict[str, Any] = _widget_values(entry)
        passed = entry.get("mode") == _BYPASSED or entry["type"].startswith("Reroute")
        for slot in listed(entry.get("inputs")):
            name, link = (slot.get("name"), slot.get("link")) if isinstance(slot, dict) else (None, None)
            if isinstance(name, str) and isinstance(link, (int, str)) and link in links:
                inputs[name] = list(links[link])
        if passed:
            inputs = {k: v for k, v in inputs.items() if isinstance(v, list)}
        nodes[str(entry.get("id"))] = Node("Reroute" if passed else entry["type"], inputs)
    return Graph(nodes)


def _widget_values(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a node's widgets by name: as its inputs name them, else as this kind of node has them."""
    values = entry.get("widgets_values")
    if isinstance(values, dict):
        return {k: v for k, v in values.items() if isinstance(k, str)}
    names: tuple[str, ...] = _WIDGETS.get(entry["type"], ())
    if not names:
        named = [
            s["name"] for s in listed(entry.get("inputs")) if isinstance(s, dict) and "widget" in s and "name" in s
        ]
        names = tuple(name for name in named if isinstance(name, str)) or ("text",)
    return {name: value for name, value in zip(names, listed(values)) if name and not isinstance(value, (list, dict))}

"""ComfyUI's API graph under `prompt`: followed from the sampler that draws the picture back to what it reads."""

from __future__ import annotations

from typing import Any

from darkroom.requests.records.found import Findings, Found

__all__ = ["read"]

SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
UNDERSTOOD = {
    *SAMPLERS,
    *("CLIPTextEncode", "CLIPTextEncodeSDXL", "EmptyLatentImage", "CheckpointLoaderSimple", "LoraLoader"),
    *("LoraLoaderModelOnly", "CLIPSetLastLayer", "VAEDecode", "VAEDecodeTiled", "SaveImage", "PreviewImage"),
    *("KSamplerSelect", "BasicScheduler", "RandomNoise", "CFGGuider", "BasicGuider", "VAELoader"),
}
MAX_HOPS = 200  # links followed in a row: graphs may have cycles

Node = dict[str, Any]


class _Graph:
    def __init__(self, table: dict[str, Any]) -> None:
        self.nodes: dict[str, Node] = {
            k: v for k, v in table.items() if isinstance(v, dict) and isinstance(v.get("inputs"), dict)
        }

    def kind(self, node: Node | None) -> str:
        found = None if node is None else node.get("class_type")
        return found if isinstance(found, str) else ""

    def at(self, node: Node | None, name: str) -> Node | None:
        """The node that the input `name` is linked to."""
        link = None if node is None else node["inputs"].get(name)
        if isinstance(link, list) and link and isinstance(link[0], (str, int)):
            return self.nodes.get(str(link[0]))
        return None

    def value(self, node: Node | None, *names: str) -> Any:
        """A number or text: stood in the node, or in the primitive node that it is linked to."""
        for name in names:
            found = None if node is None else node["inputs"].get(name)
            if isinstance(found, list):
                source = self.at(node, name)
                found = (
                    None
                    if source is None
                    else next(
                        (
                            source["inputs"][k]
                            for k in ("value", "text", "string", "seed", "noise_seed")
                            if k in source["inputs"]
                        ),
                        None,
                    )
                )
            if isinstance(found, (str, int, float)) and not isinstance(found, bool):
                return found
        return None

    def upstream(self, node: Node | None, *names: str) -> list[Node]:
        """The chain of nodes behind the first of the inputs `names` that is linked, at every hop."""
        chain: list[Node] = []
        seen: set[int] = set()
        while node is not None and id(node) not in seen and len(chain) < MAX_HOPS:
            seen.add(id(node))
            chain.append(node)
            node = next((found for n in names if (found := self.at(node, n)) is not None), None)
        return chain


def read(table: dict[str, Any]) -> Found | None:
    """None if the graph has no sampler that is known."""
    graph = _Graph(table)
    samplers = [n for n in graph.nodes.values() if graph.kind(n) in SAMPLERS]
    if not samplers:
        return None
    sampler = _last(graph, samplers)
    found = Findings()
    noise = graph.at(sampler, "noise")
    found.number("seed", _first(graph.value(sampler, "seed", "noise_seed"), graph.value(noise, "noise_seed")), int)
    scheduler = graph.at(sampler, "sigmas")
    found.number("steps", _first(graph.value(sampler, "steps"), graph.value(scheduler, "steps")), int)
    guider = graph.at(sampler, "guider")
    found.number("guidance_scale", _first(graph.value(sampler, "cfg"), graph.value(guider, "cfg")), float)
    if graph.kind(guider) == "BasicGuider":
        found.fields["guidance_scale"] = 1.0  # it asks for the prompt alone
    chosen = graph.at(sampler, "sampler")
    found.sampler(_first(graph.value(sampler, "sampler_name"), graph.value(chosen, "sampler_name")))
    found.schedule(_first(graph.value(sampler, "scheduler"), graph.value(scheduler, "scheduler")))
    asks = guider if guider is not None else sampler
    found.text("prompt", _prompt(graph, graph.at(asks, "positive") or graph.at(asks, "conditioning")) or "")
    found.text("negative_prompt", _prompt(graph, graph.at(asks, "negative")) or "")
    tags = _models(graph, found, asks)
    found.fields["prompt"] += "".join(tags)
    latent = graph.at(sampler, "latent_image")
    denoise = _first(graph.value(sampler, "denoise"), graph.value(scheduler, "denoise"))
    if graph.kind(latent) == "EmptyLatentImage":
        found.number("width", graph.value(latent, "width"), int)
        found.number("height", graph.value(latent, "height"), int)
        if denoise is not None and denoise != 1:
            found.unmapped.append(f"denoise {denoise} of an empty latent")
    elif latent is not None:
        found.unmapped.append(f"the latent comes from {graph.kind(latent) or 'an unknown node'}")
        found.number("strength", denoise, float)
    begin, end = graph.value(sampler, "start_at_step"), graph.value(sampler, "end_at_step")
    ends_early = isinstance(end, (int, float)) and end < found.fields.get("steps", 0)
    if begin not in (None, 0) or ends_early:
        found.unmapped.append(f"only the steps {begin} to {end} were drawn")
    strange = sorted({graph.kind(n) for n in graph.nodes.values()} - UNDERSTOOD - {""})
    found.unmapped += [f"node {kind[:80]}" for kind in strange]
    if len(samplers) > 1:
        found.unmapped.append(f"{len(samplers) - 1} more sampler(s) of the graph")
    found.fields["seed_mode"] = "comfy"
    loader = next((n for n in graph.upstream(asks, "model") if "ckpt_name" in n["inputs"]), None)
    return found.found("ComfyUI", graph.value(loader, "ckpt_name"))


def _first(*values: Any) -> Any:
    """The first that is there; 0 is."""
    return next((v for v in values if v is not None), None)


def _last(graph: _Graph, samplers: list[Node]) -> Node:
    """The sampler that no other sampler's latents come from."""
    feeding = {id(graph.at(s, "latent_image")) for s in samplers}
    return next((s for s in samplers if id(s) not in feeding), samplers[0])


def _prompt(graph: _Graph, node: Node | None) -> str | None:
    """The text behind a conditioning, through nodes that pass it on."""
    for step in graph.upstream(node, "conditioning", "conditioning_1", "positive"):
        said = graph.value(step, "text", "text_g", "text_l")
        if isinstance(said, str):
            return said
    return None


def _models(graph: _Graph, found: Findings, asks: Node | None) -> list[str]:
    """LoRAs on the way from the checkpoint as tags; the clip skip."""
    tags = []
    for node in graph.upstream(asks, "model"):
        if graph.kind(node) in ("LoraLoader", "LoraLoaderModelOnly"):
            name = str(graph.value(node, "lora_name")).rsplit(".", 1)[0]
            unet = graph.value(node, "strength_model")
            text = graph.value(node, "strength_clip")
            tags.append(f"<lora:{name}:{text if text is not None else 0}:{unet if unet is not None else 1}>")
    for encoder in (n for n in graph.nodes.values() if graph.kind(n) == "CLIPTextEncode"):
        for node in graph.upstream(encoder, "clip"):
            if graph.kind(node) == "CLIPSetLastLayer":
                layer = graph.value(node, "stop_at_clip_layer")
                if isinstance(layer, int) and layer < 0:
                    found.fields["clip_skip"] = -layer
    return tags[::-1]

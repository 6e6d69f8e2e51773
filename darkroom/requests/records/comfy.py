"""ComfyUI's graphs, followed from the picture that they save back to the sampler and to all that it reads."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from darkroom.errors import InputError
from darkroom.requests.records.comfy_conditioning import Prompts
from darkroom.requests.records.comfy_graph import Graph, Node, api_graph, workflow_graph
from darkroom.requests.records.found import Findings, Found
from darkroom.requests.settings import SETTINGS
from darkroom.types import HighResolution

__all__ = ["read", "read_workflow"]

DRAWING = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
ENLARGERS = ("LatentUpscale", "LatentUpscaleBy")
SAVERS = ("SaveImage", "PreviewImage")
# Nodes that are a schedule or a sampler of their own: names that this project knows.
SCHEDULERS = {
    "KarrasScheduler": "karras",
    "ExponentialScheduler": "exponential",
    "PolyexponentialScheduler": "polyexponential",
    "BetaSamplingScheduler": "beta",
    "SDTurboScheduler": "turbo",
    "VPScheduler": "vp",
}
ALIGNED = {"SD1": "align_your_steps_sd1", "SDXL": "align_your_steps_sdxl"}
SOLVERS = {
    "SamplerEulerAncestral": "euler_ancestral",
    "SamplerLMS": "lms",
    "SamplerDPMPP_SDE": "dpmpp_sde",
    "SamplerDPMPP_2M_SDE": "dpmpp_2m_sde",
    "SamplerDPMPP_3M_SDE": "dpmpp_3m_sde",
    "SamplerDPMPP_2S_Ancestral": "dpmpp_2s_ancestral",
}
UNDERSTOOD = {
    *(*DRAWING, *ENLARGERS, *SAVERS, "", "Reroute", "Note", "MarkdownNote"),
    *("CLIPTextEncode", "CLIPTextEncodeSDXL", "CLIPTextEncodeSDXLRefiner", "ConditioningZeroOut"),
    *("ConditioningCombine", "ConditioningConcat", "EmptyLatentImage", "CheckpointLoaderSimple", "LoraLoader"),
    *("LoraLoaderModelOnly", "CLIPSetLastLayer", "VAEDecode", "VAEDecodeTiled", "VAELoader"),
    *("KSamplerSelect", "BasicScheduler", "RandomNoise", "CFGGuider", "BasicGuider"),
    *("PrimitiveNode", "PrimitiveInt", "PrimitiveFloat", "PrimitiveString", "PrimitiveStringMultiline"),
    *(
        *SOLVERS,
        *SCHEDULERS,
        "AlignYourStepsScheduler",
        "StringConcatenate",
        "Seed (rgthree)",
        "ShowText|pysssh",
        "Power Lora Loader (rgthree)",
    ),
}
NAMES = {setting.path: setting.comfy for setting in SETTINGS if setting.comfy is not None}  # of sampler nodes' inputs
MAX_PASSES = 8  # that are described
MAX_KINDS = 20  # of nodes without a counterpart that are named
LATENTS = ("latent_image", "samples", "latent", "pixels", "images", "image", "")


def read(table: dict[str, Any]) -> Found | None:
    """What the API graph under `prompt` says; None if it has no sampler."""
    return _read(api_graph(table))


def read_workflow(table: dict[str, Any]) -> Found | None:
    """What a workflow of the user interface says; None if it is none or has no sampler."""
    graph = workflow_graph(table)
    return None if graph is None else _read(graph)


def _is_sampler(node: Node) -> bool:
    inputs = node.inputs.keys()
    foreign = "steps" in inputs and bool({"seed", "noise_seed"} & inputs) and bool({"positive", "guider"} & inputs)
    return node.kind in DRAWING or foreign


def _read(graph: Graph) -> Found | None:
    last = _last_samplers(graph)
    if not last:
        return None
    found = Findings()
    passes = _passes(graph, last[0])
    sampler = passes[0]
    _sampling(graph, found, sampler)
    guider = graph.at(sampler, "guider")
    asks = sampler if guider is None else guider
    prompts = Prompts(graph, found)
    positive, negative = graph.link(asks, "positive", "conditioning"), graph.link(asks, "negative")
    prompt, opposed = prompts.read(positive, "positive"), prompts.read(negative, "negative")
    if prompt is None:
        found.unmapped.append("the prompt, which cannot be found")
    if opposed is None and negative is not None:
        found.unmapped.append("the negative prompt, which cannot be found")
    found.text("prompt", (prompt or "") + "".join(_loras(graph, found, asks)))
    found.text("negative_prompt", opposed or "")
    _clip_skip(graph, found, prompts.encoders)
    _start(graph, found, sampler)
    begin, end = graph.value(sampler, "start_at_step"), graph.value(sampler, "end_at_step")
    ends_early = isinstance(end, (int, float)) and end < found.fields.get("steps", 0)
    if begin not in (None, 0) or ends_early:
        found.unmapped.append(f"only the steps {begin} to {end} were drawn")
    _second_pass(graph, found, passes)
    kinds = Counter(node.kind for node in graph.nodes.values() if node.kind not in UNDERSTOOD)
    found.unmapped += [f"node {kind}" for kind in sorted(kinds)[:MAX_KINDS]]
    if len(kinds) > MAX_KINDS:
        found.unmapped.append(f"{len(kinds) - MAX_KINDS} more kinds of nodes")
    others = sum(_is_sampler(node) for node in graph.nodes.values()) - len(passes)
    if others > 0:
        found.unmapped.append(f"{others} more sampler(s) of the graph")
    found.fields |= {"seed_mode": "comfy", "emphasis": "comfy"}
    loader = next((n for n in graph.upstream(asks, "model", "") if "ckpt_name" in n.inputs), None)
    return found.found("ComfyUI", graph.value(loader, "ckpt_name"))


def _last_samplers(graph: Graph) -> list[Node]:
    """The samplers whose pictures nothing draws over, first those of pictures that are saved."""
    used = {id(link.node) for node in graph.nodes.values() for link in graph.sources(node)}
    ends = [node for node in graph.nodes.values() if id(node) not in used]
    ends.sort(key=lambda node: SAVERS.index(node.kind) if node.kind in SAVERS else len(SAVERS))
    seen: set[Node] = set()
    found = [sampler for end in ends for sampler in graph.behind(end, _is_sampler, seen)]
    return found or [node for node in graph.nodes.values() if _is_sampler(node)][:1]


def _passes(graph: Graph, last: Node) -> list[Node]:
    """The samplers that drew one picture, in order."""
    return [node for node in graph.upstream(last, *LATENTS) if _is_sampler(node)][::-1]


def _sampling(graph: Graph, found: Findings, sampler: Node) -> None:
    """Seed, steps, guidance, sampler and schedule: in the sampler, or in the nodes that it is put together from."""
    scheduler, guider = _scheduler(graph, sampler), graph.at(sampler, "guider")
    _number(
        graph,
        found,
        "seed",
        int,
        (sampler, "seed"),
        (sampler, "noise_seed"),
        (graph.at(sampler, "noise"), "noise_seed"),
    )
    _number(graph, found, "steps", int, *((node, NAMES["steps"]) for node in (sampler, scheduler)))
    _number(graph, found, "guidance_scale", float, *((node, NAMES["guidance_scale"]) for node in (sampler, guider)))
    if guider is not None and guider.kind == "BasicGuider":
        found.fields["guidance_scale"] = 1.0  # it asks for the prompt alone
    chosen = graph.at(sampler, "sampler")
    found.sampler(_value(graph, *((node, NAMES["sampler"]) for node in (sampler, chosen))) or _name(chosen, SOLVERS))
    schedule = _value(graph, *((node, NAMES["schedule"]) for node in (sampler, scheduler)))
    found.schedule(schedule or _name(scheduler, SCHEDULERS) or _aligned(graph, found, scheduler))
    for node in (chosen, scheduler):
        _options(graph, found, node)


def _scheduler(graph: Graph, sampler: Node) -> Node | None:
    """The node that makes the levels, behind those that cut or turn them."""
    return next(reversed(list(graph.upstream(graph.at(sampler, "sigmas"), "sigmas", ""))), None)


def _aligned(graph: Graph, found: Findings, node: Node | None) -> str | None:
    """The schedule of a node that has one for each kind of model."""
    if node is None or node.kind != "AlignYourStepsScheduler":
        return None
    kind = graph.value(node, "model_type")
    if kind not in ALIGNED:
        found.unmapped.append(f"AlignYourStepsScheduler for {kind}")
    return ALIGNED.get(str(kind))


def _name(node: Node | None, names: dict[str, str]) -> str | None:
    return None if node is None else names.get(node.kind)


def _options(graph: Graph, found: Findings, node: Node | None) -> None:
    """The options of a node that is a sampler or a schedule of its own: those that this project's has, too."""
    read: Callable[[Mapping[str, object]], object]
    if node is not None and node.kind in SOLVERS:
        from darkroom.diffusion.samplers import SAMPLERS

        field, read = "sampler_options", SAMPLERS[SOLVERS[node.kind]].with_options
    elif node is not None and node.kind in SCHEDULERS:
        from darkroom.diffusion.sigma_schedules import SCHEDULES

        field, read = "schedule_options", SCHEDULES[SCHEDULERS[node.kind]].read
    else:
        return
    for name in sorted(node.inputs.keys() - {"model", NAMES["steps"], NAMES["strength"]}):
        value = graph.value(node, name)
        option = {"solver" if name == "solver_type" else name: value}
        with contextlib.suppress(InputError):
            if value is not None:
                read(option)
                found.fields.setdefault(field, {}).update(option)
                continue
        found.unmapped.append(f"{name} {value} of {node.kind}")


def _value(graph: Graph, *places: tuple[Node | None, str]) -> Any:
    """The value of the first of the inputs, each named by its node, that has one."""
    return next((v for node, name in places if (v := graph.value(node, name)) is not None), None)


def _number(graph: Graph, found: Findings, field: str, kind: type, *places: tuple[Node | None, str]) -> None:
    """The first number that is there; one that a node works out is said."""
    if (value := _value(graph, *places)) is not None:
        found.number(field, value, kind)
        return
    for node, name in places:
        if (source := graph.at(node, name)) is not None:
            found.unmapped.append(f"{name}, which {source.kind or 'an unknown node'} makes")


def _start(graph: Graph, found: Findings, sampler: Node) -> None:
    """The size of an empty latent, or how much of a picture is drawn over."""
    behind = graph.upstream(graph.at(sampler, "latent_image"), "latent", "samples", "")
    latent = next((n for n in behind if n.kind != "Reroute"), None)
    denoise = _value(graph, *((node, NAMES["strength"]) for node in (sampler, _scheduler(graph, sampler))))
    if latent is None:
        return
    if latent.kind.startswith("Empty") or "batch_size" in latent.inputs:
        for side in ("width", "height"):
            _number(graph, found, side, int, (latent, NAMES[side]), (latent, f"empty_latent_{side}"))
        if denoise is not None and denoise != 1:
            found.unmapped.append(f"denoise {denoise} of an empty latent")
        pictures = graph.value(latent, "batch_size")
        if pictures not in (None, 1):
            found.unmapped.append(f"a batch of {pictures} pictures from one seed, of which this may be any")
    else:
        found.unmapped.append(f"the latent comes from {latent.kind or 'an unknown node'}")
        if isinstance(denoise, (int, float)) and 0 < denoise < 1 and "steps" in found.fields:
            steps = found.fields["steps"]
            found.fields["steps"], found.fields["strength"] = _whole(steps, denoise)
        else:
            found.number("strength", denoise, float, "denoise")


def _whole(steps: int, denoise: float) -> tuple[int, float]:
    """(Steps of the whole schedule, share of it that is run): ComfyUI's `steps` are those that are run."""
    whole = max(1, int(steps / denoise))
    return whole, min(1.0, steps / whole)


def _second_pass(graph: Graph, found: Findings, passes: list[Node]) -> None:
    """A second sampler that draws over enlarged latents of the first; all else that follows it is said."""
    if len(passes) < 2:
        return
    first, second = passes[:2]
    enlarger = next((n for n in graph.upstream(second, *LATENTS) if n.kind in ENLARGERS), None)
    scale = graph.value(enlarger, "scale_by")
    width, before = graph.value(enlarger, "width"), found.fields.get("width")
    if scale is None and isinstance(width, (int, float)) and before:
        scale = width / before
    denoise, steps = graph.value(second, "denoise"), graph.value(second, "steps")
    numbers = all(isinstance(v, (int, float)) for v in (scale, denoise, steps))
    if len(passes) == 2 and numbers and scale > 1 and 0 < denoise < 1 and steps >= 1:  # type: ignore[operator]
        whole, share = _whole(int(steps), float(denoise))  # type: ignore[arg-type]
        found.fields["hires"] = HighResolution(float(scale), share, whole, "latent")  # type: ignore[arg-type]
        if (method := graph.value(enlarger, "upscale_method")) != "bilinear":
            found.unmapped.append(f"upscale_method {method} of the second pass, which enlarges bilinearly here")
        for name in ("seed", "cfg", "sampler_name", "scheduler"):
            if (value := graph.value(second, name)) != graph.value(first, name):
                found.unmapped.append(f"{name} {value} of the second pass")
        return
    if len(passes) > MAX_PASSES:
        found.unmapped.append(f"{len(passes) - MAX_PASSES} more passes")
    for number, each in enumerate(passes[1:MAX_PASSES], 2):
        said = {name: graph.value(each, name) for name in ("steps", "denoise", "start_at_step")}
        settings = ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)
        loader = next((n for n in graph.upstream(each, "model", "") if "ckpt_name" in n.inputs), None)
        model = graph.value(loader, "ckpt_name")
        found.unmapped.append(f"pass {number}, {each.kind}: {settings}" + (f", model {model}" if model else ""))


def _loras(graph: Graph, found: Findings, asks: Node) -> list[str]:
    """LoRAs on the way from the checkpoint as tags, the nearest to it first."""
    tags: list[str] = []
    for node in graph.upstream(asks, "model", ""):
        if node.kind in ("LoraLoader", "LoraLoaderModelOnly"):
            unet, text = graph.value(node, "strength_model"), graph.value(node, "strength_clip")
            name = graph.value(node, "lora_name")
            tags.append(found.lora(name, 0 if text is None else text, 1 if unet is None else unet))
        elif node.kind == "Power Lora Loader (rgthree)":
            for entry in reversed([v for v in node.inputs.values() if isinstance(v, dict) and v.get("on")]):
                unet = entry.get("strength", 1)
                text = entry.get("strengthTwo")
                tags.append(found.lora(entry.get("lora"), unet if text is None else text, unet))
    return tags[::-1]


def _clip_skip(graph: Graph, found: Findings, encoders: list[Node]) -> None:
    """The last layer that the nodes which encode the prompts read."""
    for encoder in encoders:
        node = next((n for n in graph.upstream(encoder, "clip", "") if n.kind == "CLIPSetLastLayer"), None)
        layer = graph.value(node, "stop_at_clip_layer")
        if isinstance(layer, int) and layer < 0:
            found.fields["clip_skip"] = -layer

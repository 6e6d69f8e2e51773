"""ComfyUI's graphs, written here by hand."""

import json
import time
from typing import Any

import pytest

from darkroom.errors import InputError
from darkroom.requests.records import comfy
from darkroom.requests.records.found import Found
from darkroom.types import HighResolution, Request

GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 42, "steps": 30, "cfg": 6.5, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1,
            "model": ["11", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 1024, "height": 768, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle", "clip": ["12", 0]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog", "clip": ["12", 0]}},
    "11": {
        "class_type": "LoraLoader",
        "inputs": {
            "lora_name": "styles/ink.safetensors", "strength_model": 0.8, "strength_clip": 0.5,
            "model": ["4", 0], "clip": ["4", 1],
        },
    },
    "12": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["11", 1]}},
    "20": {"class_type": "ControlNetApply", "inputs": {"strength": 1.0}},
}  # fmt: skip


def test_a_whole_graph() -> None:
    found = read(GRAPH)
    assert found.request == Request(
        "a castle<lora:styles/ink:0.5:0.8>", "fog", 1024, 768, 42, 30, 6.5, "DPM++ 2M", "karras", clip_skip=2,
        seed_mode="comfy", emphasis="comfy",
    )  # fmt: skip
    assert (found.dialect, found.model) == ("ComfyUI", "sd_xl_base_1.0.safetensors")
    assert found.unmapped == ("node ControlNetApply",)


def test_a_graph_that_goes_in_circles_ends() -> None:
    loop = json.loads(json.dumps(GRAPH))
    loop["11"]["inputs"]["model"] = ["11", 0]
    loop["6"]["inputs"] = {"conditioning": ["6", 0]}
    loop["12"]["inputs"]["clip"] = ["12", 0]
    found = comfy.read(loop)
    assert found is not None
    assert found.request.prompt.endswith("<lora:styles/ink:0.5:0.8>")
    assert comfy.read({"1": {"class_type": "Other", "inputs": {}}}) is None


def test_comfyui_says_what_of_its_sampling_is_lost() -> None:
    graph = json.loads(json.dumps(GRAPH))
    graph["3"]["class_type"] = "KSamplerAdvanced"
    graph["3"]["inputs"] |= {"cfg": 0, "denoise": 0.5, "start_at_step": 5, "end_at_step": 10}
    found = comfy.read(graph)
    assert found is not None
    assert found.request.guidance_scale == 0
    assert found.unmapped[:2] == ("denoise 0.5 of an empty latent", "only the steps 5 to 10 were drawn")
    graph["3"]["inputs"] |= {"denoise": 1, "start_at_step": 0, "end_at_step": 10000}
    whole = comfy.read(graph)
    assert whole is not None
    assert whole.unmapped == ("node ControlNetApply",)


def test_comfyui_with_its_sampler_in_parts() -> None:
    graph = {
        "1": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {"noise": ["2", 0], "guider": ["3", 0], "sampler": ["4", 0], "sigmas": ["5", 0]},
        },
        "2": {"class_type": "RandomNoise", "inputs": {"noise_seed": 3}},
        "3": {"class_type": "BasicGuider", "inputs": {"conditioning": ["6", 0]}},
        "4": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler_ancestral"}},
        "5": {"class_type": "BasicScheduler", "inputs": {"scheduler": "simple", "steps": 4, "denoise": 1.0}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle"}},
    }
    found = comfy.read(graph)
    assert found is not None
    assert found.request == Request(
        "a castle",
        seed=3,
        steps=4,
        guidance_scale=1.0,
        sampler="Euler a",
        schedule="simple",
        seed_mode="comfy",
        emphasis="comfy",
    )
    assert found.unmapped == ()


def read(graph: dict[str, Any]) -> Found:
    found = comfy.read(graph)
    assert found is not None
    return found


def changed(**nodes: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """GRAPH without its stray node, with nodes `nKEY` set to (kind, inputs)."""
    graph = json.loads(json.dumps({k: v for k, v in GRAPH.items() if k != "20"}))
    for key, (kind, inputs) in nodes.items():
        graph[key.removeprefix("n")] = {"class_type": kind, "inputs": inputs}
    return graph


def rewired(positive: list[object], negative: list[object], **nodes: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    graph = changed(**nodes)
    graph["3"]["inputs"] |= {"positive": positive, "negative": negative}
    return graph


CONTROL = ("ControlNetApplyAdvanced", {"positive": ["6", 0], "negative": ["7", 0], "strength": 1.0})


@pytest.mark.parametrize("kind", ["ControlNetApplyAdvanced", "InpaintModelConditioning", "AnythingUnheardOf"])
def test_the_second_output_of_a_node_is_not_its_first(kind: str) -> None:
    graph = rewired(["21", 0], ["21", 1], n20=CONTROL, n21=(kind, {"positive": ["20", 0], "negative": ["20", 1]}))
    found = read(graph)
    assert found.request.prompt.startswith("a castle<lora:")
    assert found.request.negative_prompt == "fog"
    assert "node ControlNetApplyAdvanced" in found.unmapped
    crossed = read(rewired(["20", 1], ["20", 0], n20=CONTROL))
    assert (crossed.request.prompt.partition("<")[0], crossed.request.negative_prompt) == ("fog", "a castle")


def test_a_prompt_of_zeros_is_not_the_prompt_that_it_was_made_of() -> None:
    found = read(rewired(["6", 0], ["20", 0], n20=("ConditioningZeroOut", {"conditioning": ["6", 0]})))
    assert found.request.negative_prompt == ""
    assert found.unmapped == ("ConditioningZeroOut: zeros in place of the negative prompt; it is left empty",)


def test_combined_prompts() -> None:
    both = {"conditioning_1": ["6", 0], "conditioning_2": ["7", 0]}
    found = read(rewired(["20", 0], ["7", 0], n20=("ConditioningCombine", both)))
    assert found.request.prompt == "a castle :0.5 AND fog :0.5<lora:styles/ink:0.5:0.8>"
    again = {"conditioning_1": ["20", 0], "conditioning_2": ["20", 0]}
    found = read(rewired(["6", 0], ["21", 0], n20=("ConditioningCombine", both), n21=("ConditioningCombine", again)))
    assert found.request.negative_prompt == "a castle"
    assert found.unmapped == ("3 more negative prompt(s), which are combined with the first",)
    chained = {"conditioning_to": ["6", 0], "conditioning_from": ["7", 0]}
    found = read(rewired(["20", 0], ["7", 0], n20=("ConditioningConcat", chained)))
    assert found.request.prompt.startswith("a castle BREAK fog")


def test_prompts_of_sdxl_for_two_towers() -> None:
    inputs = {"text_g": "a castle", "text_l": "a castle", "width": 1024, "clip": ["12", 0]}
    alike = read(changed(n6=("CLIPTextEncodeSDXL", inputs)))
    assert (alike.request.prompt.partition("<")[0], alike.unmapped) == ("a castle", ())
    unlike = read(changed(n6=("CLIPTextEncodeSDXL", {**inputs, "text_l": "stone"})))
    assert unlike.request.prompt.startswith("a castle")
    assert unlike.unmapped == ("text_l, a prompt of its own for the smaller tower: stone",)
    assert read(changed(n6=("CLIPTextEncodeSDXL", {**inputs, "text_g": ""}))).request.prompt.startswith("a castle")


def test_prompts_behind_other_nodes() -> None:
    def prompt(**nodes: tuple[str, dict[str, Any]]) -> str:
        return read(changed(n6=("CLIPTextEncode", {"text": ["30", 0], "clip": ["12", 0]}), **nodes)).request.prompt

    tag = "<lora:styles/ink:0.5:0.8>"
    assert prompt(n30=("PrimitiveString", {"value": "one"})) == "one" + tag
    assert prompt(n30=("Reroute", {"": ["31", 0]}), n31=("String Literal", {"string": "two"})) == "two" + tag
    joined = ("StringConcatenate", {"string_a": ["31", 0], "string_b": "b", "delimiter": ", "})
    assert prompt(n30=joined, n31=("CR Text", {"text": "a"})) == "a, b" + tag
    linked = ("ShowText|pysssh", {"text": ["31", 0], "text_0": "shown"})
    assert prompt(n30=("Reroute", {"": ["32", 0]}), n32=joined, n31=("CR Text", {"text": "a"})) == "a, b" + tag
    assert prompt(n30=linked, n31=("CR Text", {"text": "shown"})).startswith("shown")
    circle = ("StringConcatenate", {"string_a": ["30", 0], "string_b": "b", "delimiter": ""})
    assert prompt(n30=circle) == "b" + tag


def test_texts_that_grow_without_end_are_refused() -> None:
    graph = rewired(["x20", 0], ["7", 0], n6=("CLIPTextEncode", {"text": "a" * 19_000}))
    for i in range(21):  # each node twice the one before
        graph[f"y{i}"] = {
            "class_type": "StringConcatenate",
            "inputs": {k: [f"y{i - 1}", 0] for k in ("string_a", "string_b")},
        }
        both = {f"conditioning_{k}": [f"x{i - 1}" if i else "6", 0] for k in (1, 2)}
        graph[f"x{i}"] = {"class_type": "ConditioningCombine", "inputs": both}
    assert "prompts beyond the first 32 that are combined" in read(graph).unmapped
    chained = {
        f"z{i}": {
            "class_type": "ConditioningConcat",
            "inputs": {"conditioning_to": ["x20", 0], "conditioning_from": ["7", 0]},
        }
        for i in range(9)
    }
    for i in range(9):
        chained[f"w{i}"] = {
            "class_type": "ConditioningCombine",
            "inputs": {"conditioning_1": [f"z{i}", 0], "conditioning_2": [f"w{i - 1}" if i else "7", 0]},
        }
    graph |= chained
    graph["3"]["inputs"]["positive"] = ["w8", 0]
    with pytest.raises(InputError, match="the nodes of the graph join texts of more than 1000000 characters"):
        read(graph)
    graph["y0"]["inputs"] = {"text": "ab"}
    graph["6"]["inputs"] = {"text": ["y20", 0]}
    graph["3"]["inputs"]["positive"] = ["6", 0]
    with pytest.raises(InputError, match="join texts of more than"):
        read(graph)


def test_what_cannot_be_found_is_said() -> None:
    graph = changed(n6=("Oracle", {"anything": 3}), n30=("Dice", {"sides": 6}))
    graph["3"]["inputs"] |= {"steps": ["30", 0], "seed": ["30", 0]}
    found = read(graph)
    assert (found.request.steps, found.request.seed) == (None, 0)
    assert found.unmapped == (
        *("seed, which Dice makes", "steps, which Dice makes", "the prompt, which cannot be found"),
        *("node Dice", "node Oracle"),
    )


def test_numbers_behind_other_nodes() -> None:
    graph = changed(
        n30=("Seed (rgthree)", {"seed": 99}), n31=("PrimitiveInt", {"value": 7}), n32=("Reroute", {"": ["31", 0]})
    )
    graph["3"]["inputs"] |= {"seed": ["30", 0], "steps": ["32", 0]}
    assert (read(graph).request.seed, read(graph).request.steps) == (99, 7)


def test_only_layers_and_loras_on_the_way_count() -> None:
    stray = ("CLIPSetLastLayer", {"stop_at_clip_layer": -5, "clip": ["4", 1]})
    found = read(changed(n40=stray, n41=("CLIPTextEncode", {"text": "not drawn", "clip": ["40", 0]})))
    assert found.request.clip_skip == 2
    power = {"lora_1": {"on": True, "lora": "a.safetensors", "strength": 0.7}, "model": ["4", 0], "clip": ["4", 1]}
    power |= {"lora_2": {"on": False, "lora": "b.safetensors", "strength": 1}}
    found = read(changed(n11=("Power Lora Loader (rgthree)", power)))
    assert found.request.prompt == "a castle<lora:a:0.7:0.7>"
    odd = {"lora_name": "a:b", "strength_model": 1, "strength_clip": 1, "model": ["4", 0], "clip": ["4", 1]}
    assert read(changed(n11=("LoraLoader", odd))).unmapped == ("the LoRA a:b of strength 1 and 1",)


def test_steps_of_a_picture_that_is_drawn_over_are_those_that_are_run() -> None:
    graph = changed(n5=("VAEEncode", {"pixels": ["50", 0]}), n50=("LoadImage", {"image": "a.png"}))
    graph["3"]["inputs"] |= {"steps": 20, "denoise": 0.6}
    request = read(graph).request
    assert request.steps == 33
    assert request.strength is not None
    assert int(request.steps * request.strength + 1e-9) == 20
    assert read(graph).unmapped == ("the latent comes from VAEEncode", "node LoadImage", "node VAEEncode")


def test_nodes_that_are_samplers_and_schedules_of_their_own() -> None:
    graph = changed(
        n80=("SamplerDPMPP_2M_SDE", {"solver_type": "midpoint", "eta": 0.5, "s_noise": 1, "noise_device": "gpu"}),
        n81=("KarrasScheduler", {"steps": 12, "sigma_max": 14.6, "sigma_min": 0.03, "rho": 7.0}),
    )
    graph["3"]["class_type"] = "SamplerCustom"
    graph["3"]["inputs"] |= {"sampler": ["80", 0], "sigmas": ["81", 0]}
    for name in ("steps", "sampler_name", "scheduler", "denoise"):
        del graph["3"]["inputs"][name]
    found = read(graph)
    assert (found.request.sampler, found.request.schedule, found.request.steps) == ("DPM++ 2M SDE", "karras", 12)
    assert found.request.sampler_options == {"eta": 0.5, "s_noise": 1, "solver": "midpoint"}
    assert found.request.schedule_options == {"sigma_max": 14.6, "sigma_min": 0.03, "rho": 7.0}
    assert found.unmapped == ("noise_device gpu of SamplerDPMPP_2M_SDE",)


def test_a_batch_is_said() -> None:
    found = read(changed(n5=("EmptyLatentImage", {"width": 64, "height": 32, "batch_size": 4})))
    assert (found.request.width, found.request.height) == (64, 32)
    assert found.unmapped == ("a batch of 4 pictures from one seed, of which this may be any",)


def second_pass(**inputs: object) -> dict[str, Any]:
    graph = changed(
        n60=("LatentUpscaleBy", {"samples": ["3", 0], "upscale_method": "bilinear", "scale_by": 1.5}),
        n62=("VAEDecode", {"samples": ["61", 0]}),
        n63=("SaveImage", {"images": ["62", 0]}),
    )
    later = {**graph["3"]["inputs"], "latent_image": ["60", 0], "denoise": 0.5, "steps": 10, **inputs}
    graph["61"] = {"class_type": "KSampler", "inputs": later}
    return graph


def test_a_second_pass_over_enlarged_latents() -> None:
    found = read(second_pass())
    assert found.request.hires == HighResolution(1.5, 0.5, 20, "latent")
    assert (found.request.steps, found.request.width, found.unmapped) == (30, 1024, ())
    assert read(second_pass(seed=5)).unmapped == ("seed 5 of the second pass",)
    refined = read(second_pass(latent_image=["3", 0], start_at_step=20))
    assert refined.request.hires is None
    assert refined.unmapped[0].startswith("pass 2, KSampler: steps 10, denoise 0.5, start_at_step 20, model sd_xl")


def test_the_saved_picture_counts() -> None:
    graph = second_pass()
    graph["70"] = {"class_type": "KSampler", "inputs": {**graph["3"]["inputs"], "seed": 1}}
    graph["71"] = {"class_type": "PreviewImage", "inputs": {"images": ["70", 0]}}
    found = read(dict(reversed(graph.items())))
    assert found.request.seed == 42
    assert "1 more sampler(s) of the graph" in found.unmapped


def workflow() -> dict[str, Any]:
    """What the user interface would save of a graph with a reroute and a bypassed node."""

    def node(key: int, kind: str, values: object = None, mode: int = 0, **inputs: int) -> dict[str, Any]:
        slots = [{"name": name.strip("_"), "type": "*", "link": link} for name, link in inputs.items()]
        return {"id": key, "type": kind, "mode": mode, "inputs": slots, "widgets_values": values}

    sampling = [42, "randomize", 30, 6.5, "dpmpp_2m", "karras", 1]
    return {
        "last_node_id": 9,
        "nodes": [
            node(3, "KSampler", sampling, model=1, positive=2, negative=3, latent_image=4),
            node(4, "CheckpointLoaderSimple", ["base.safetensors"]),
            node(5, "EmptyLatentImage", [1024, 768, 1]),
            node(6, "CLIPTextEncode", ["a castle"], clip=5),
            node(7, "CLIPTextEncode", ["fog"], clip=5),
            node(8, "Reroute", None, _=6),
            node(9, "LoraLoader", ["ink.safetensors", 1, 1], mode=4, model=7, clip=8),
            node(10, "CLIPTextEncode", ["muted"], mode=2),
            {"id": 11, "type": "Note", "widgets_values": ["a note"]},
        ],
        "links": [
            [1, 9, 0, 3, 0, "MODEL"], [2, 8, 0, 3, 1, "CONDITIONING"], [3, 7, 0, 3, 2, "CONDITIONING"],
            [4, 5, 0, 3, 3, "LATENT"], [5, 9, 1, 6, 0, "CLIP"], [6, 6, 0, 8, 0, "*"], [7, 4, 0, 9, 0, "MODEL"],
            [8, 4, 1, 9, 1, "CLIP"], "damaged", [9], [[], {}, None],
        ],
    }  # fmt: skip


def test_a_workflow_without_its_graph() -> None:
    found = comfy.read_workflow(workflow())
    assert found is not None
    assert found.request == Request(
        "a castle", "fog", 1024, 768, 42, 30, 6.5, "DPM++ 2M", "karras", seed_mode="comfy", emphasis="comfy"
    )
    assert (found.model, found.unmapped) == ("base.safetensors", ())
    assert comfy.read_workflow({"nodes": [3, {"type": 4}]}) is None


def chain(kind: str, name: str, other: str, nodes: int) -> dict[str, Any]:
    """`nodes` nodes, each linked to the one before by `name`, and by `other` to it too."""
    last = f"x{nodes - 1}"
    graph = rewired([last, 0], ["7", 0])
    graph["3"]["inputs"]["latent_image"] = [last, 0]
    for i in range(nodes):
        before = [f"x{i - 1}" if i else "6", 0]
        graph[f"x{i}"] = {"class_type": kind, "inputs": {name: before, other: before}}
    return graph


@pytest.mark.parametrize(
    ("kind", "name", "other"),
    [
        ("ConditioningCombine", "conditioning_1", "conditioning_2"),
        ("StringConcatenate", "string_a", "string_b"),
        ("KSampler", "latent_image", "model"),
    ],
)
def test_graphs_of_40000_nodes_are_read_at_once(kind: str, name: str, other: str) -> None:
    graph = chain(kind, name, other, 40_000)
    if kind == "StringConcatenate":
        graph["6"]["inputs"] = {"text": "ab"}
    began = time.process_time()
    assert comfy.read(graph) is not None
    assert time.process_time() - began < 6  # a third of a second; 28 where a node costs what the graph holds


@pytest.mark.parametrize(
    ("node", "schedule"),
    [
        ({"class_type": "KarrasScheduler", "inputs": {"steps": 20, "rho": 7.0}}, "karras"),
        (
            {"class_type": "AlignYourStepsScheduler", "inputs": {"steps": 20, "model_type": "SDXL"}},
            "align_your_steps_sdxl",
        ),
    ],
)
def test_levels_are_those_behind_what_cuts_them(node: dict[str, Any], schedule: str) -> None:
    inputs = {"noise_seed": 5, "cfg": 7, "positive": ["2", 0], "sigmas": ["3", 0]}
    graph = {
        "1": {"class_type": "SamplerCustom", "inputs": inputs},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}},
        "3": {"class_type": "SplitSigmas", "inputs": {"sigmas": ["4", 0], "step": 10}},
        "4": node,
    }
    found = read(graph)
    assert found is not None
    assert (found.request.steps, found.request.schedule, found.unmapped) == (20, schedule, ("node SplitSigmas",))

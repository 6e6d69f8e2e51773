"""`darkroom generate`: sentences in, pictures out. What it draws is put together here and drawn in `draw`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.cli.arguments import (
    alike,
    check_companions,
    lora_tag,
    numbers,
    read_boxes,
    read_pictures,
    region_of,
    setting,
    shares,
)
from darkroom.cli.draw import Models, Output, draw
from darkroom.errors import InputError

if TYPE_CHECKING:
    from darkroom.requests.records import Found
    from darkroom.requests.xyz import Axis

__all__ = ["generate"]

DTYPES = ("auto", "bf16", "fp16", "fp32")
EMA = ("auto", "yes", "no")
START, GUIDE, SEEDS, MODELS, CONDITIONS, SHEETS = (
    "Starting from a picture",
    "Guidance and prompts",
    "Seeds",
    "Models",
    "Conditions of special systems",
    "Grids, frames and previews",
)


def generate(
    context: typer.Context,
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT…", help="What to draw; one picture or batch each.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option("-p", "--prompt", help="One more of them.")] = None,
    model: Annotated[
        str, typer.Option("-m", "--model", "--ckpt", help="A checkpoint's file or folder, a hub id, or a name.")
    ] = "picturebook",
    negative: Annotated[str, typer.Option("-n", "--negative-prompt", help="What to keep away from.")] = "",
    width: Annotated[int | None, typer.Option("-W", "--width", "--W", help="Pixels; default: the system's.")] = None,
    height: Annotated[int | None, typer.Option("-H", "--height", "--H", help="Pixels; default: the system's.")] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", "--num-inference-steps", "--ddim-steps", help="Sampler steps; default: the system's."),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option("--cfg-scale", "--guidance-scale", "--scale", help="How strictly the prompt is kept."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("-s", "--seed", help="Of the first picture, default 0; -1 draws one.")
    ] = None,
    batch: Annotated[int, typer.Option("-b", "--batch-count", help="Pictures per prompt, with seeds counting up.")] = 1,
    sampler: Annotated[str | None, typer.Option("--sampler", "--sampling-method", help="Euler a, DPM++ 2M, …")] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", "--scheduler", help="karras, trailing, …")] = None,
    sigmas: Annotated[
        str | None, typer.Option(help="Falling noise levels, 14.6,6.5,… in place of schedule and steps.")
    ] = None,
    sampler_option: Annotated[
        list[str] | None, typer.Option("--sampler-option", metavar="KEY=VALUE", help="eta=0.5, s_churn=10 …")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")] = Path("out"),
    form: Annotated[str, typer.Option("--format", help="png, jpg or webp; all carry the parameters.")] = "png",
    like: Annotated[
        Path | None, typer.Option(help="Repeat this picture: its parameters hold where no option is given.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Precision: auto (what is fast here), bf16, fp16 or fp32.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    threads: Annotated[int | None, typer.Option("-t", "--threads", help="Cores to use; default: all.")] = None,
    image: Annotated[
        Path | None, typer.Option("-i", "--init-img", "--init-image", help="Start from it.", rich_help_panel=START)
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength", "--denoising-strength", help="How much of it is drawn anew, 0 to 1.", rich_help_panel=START
        ),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Repaint where it is white (or transparent).", rich_help_panel=START)
    ] = None,
    mask_blur: Annotated[float, typer.Option(help="Softness of its edge in pixels.", rich_help_panel=START)] = 0.0,
    outpaint: Annotated[
        str | None, typer.Option(metavar="L,T,R,B", help="Pixels to add at each side.", rich_help_panel=START)
    ] = None,
    hires: Annotated[
        float | None, typer.Option(help="Enlarge by this and draw over in a second pass.", rich_help_panel=START)
    ] = None,
    hires_strength: Annotated[float, typer.Option(help="Of the second pass.", rich_help_panel=START)] = 0.6,
    hires_steps: Annotated[
        int | None, typer.Option(help="Of the second pass; default: as many.", rich_help_panel=START)
    ] = None,
    hires_upscaler: Annotated[str, typer.Option(help="latent or picture.", rich_help_panel=START)] = "latent",
    target: Annotated[
        Path | None, typer.Option(help="Lead the coarse look to this picture's.", rich_help_panel=START)
    ] = None,
    target_strength: Annotated[float, typer.Option(help="How strongly.", rich_help_panel=START)] = 1.0,
    rescale: Annotated[
        float,
        typer.Option("--guidance-rescale", "--rescale", help="Share of guidance to rescale.", rich_help_panel=GUIDE),
    ] = 0.0,
    interval: Annotated[
        str | None,
        typer.Option(
            "--guidance-interval",
            "--interval",
            metavar="A,B",
            help="Guide between these shares of the steps.",
            rich_help_panel=GUIDE,
        ),
    ] = None,
    dynamic_threshold: Annotated[
        float | None,
        typer.Option(
            "--dynamic-threshold",
            "--threshold",
            help="Percentile of dynamic thresholding, 0.995 say.",
            rich_help_panel=GUIDE,
        ),
    ] = None,
    pag_scale: Annotated[
        float, typer.Option("--pag-scale", help="Of perturbed-attention guidance.", rich_help_panel=GUIDE)
    ] = 0.0,
    apg: Annotated[
        bool, typer.Option("--apg", "--projected", help="Adaptive projected guidance.", rich_help_panel=GUIDE)
    ] = False,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="L,T,R,B[,WEIGHT]:PROMPT", help="A prompt for a part, in shares 0 to 1.", rich_help_panel=GUIDE
        ),
    ] = None,
    deepcache_interval: Annotated[
        int,
        typer.Option(
            "--deepcache-interval",
            "--deep-every",
            help="Compute deep features at every so many-th step only: faster, other pictures.",
        ),
    ] = 1,
    tome_ratio: Annotated[
        float,
        typer.Option(
            "--tome-ratio",
            "--merge-tokens",
            metavar="SHARE",
            help="Merge this share of tokens in self-attention: faster, other pictures.",
        ),
    ] = 0.0,
    emphasis: Annotated[str, typer.Option(help="a1111, no_norm, comfy or compel.", rich_help_panel=GUIDE)] = "a1111",
    clip_skip: Annotated[int | None, typer.Option(help="Last CLIP layer: 1, 2 …", rich_help_panel=GUIDE)] = None,
    seed_mode: Annotated[
        str, typer.Option("--seed-mode", "--rng", help="darkroom, a1111, comfy or diffusers.", rich_help_panel=SEEDS)
    ] = "darkroom",
    variation_seed: Annotated[
        int | None, typer.Option(help="Lean to this seed's noise …", rich_help_panel=SEEDS)
    ] = None,
    variation_strength: Annotated[float, typer.Option(help="… by 0 to 1.", rich_help_panel=SEEDS)] = 0.0,
    lora: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:WEIGHT]", help="As <lora:NAME:WEIGHT> in every prompt.", rich_help_panel=MODELS),
    ] = None,
    lora_dir: Annotated[
        list[Path] | None, typer.Option("--lora-dir", "--lora-model-dir", help="LoRAs' folder.", rich_help_panel=MODELS)
    ] = None,
    vae: Annotated[
        str | None, typer.Option(help="Another first stage's file or folder.", rich_help_panel=MODELS)
    ] = None,
    prediction: Annotated[
        str | None, typer.Option(help="eps, v or x0, against what the file says.", rich_help_panel=MODELS)
    ] = None,
    ema: Annotated[str, typer.Option(help="Averaged weights: auto, yes or no.", rich_help_panel=MODELS)] = "auto",
    memory: Annotated[str, typer.Option(help="auto, or low: slower, in less.", rich_help_panel=MODELS)] = "auto",
    quantize: Annotated[
        str | None,
        typer.Option(help="int8 or fp8 for large linear layers: faster, other pictures.", rich_help_panel=MODELS),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Make kernels first; pays for many pictures.", rich_help_panel=MODELS)
    ] = False,
    refiner: Annotated[str | None, typer.Option(help="A model that draws the end.", rich_help_panel=MODELS)] = None,
    switch_at: Annotated[
        float, typer.Option(help="Share of the schedule that the base draws.", rich_help_panel=MODELS)
    ] = 0.8,
    class_label: Annotated[
        int | None, typer.Option("--class", help="A class number.", rich_help_panel=CONDITIONS)
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="JSON: [{label, x0, y0, x1, y1}, …], shares.", rich_help_panel=CONDITIONS)
    ] = None,
    segmentation: Annotated[
        Path | None, typer.Option(help="A picture whose values are classes.", rich_help_panel=CONDITIONS)
    ] = None,
    depth: Annotated[Path | None, typer.Option(help="A depth map, near is bright.", rich_help_panel=CONDITIONS)] = None,
    image_prompt: Annotated[Path | None, typer.Option(help="A picture to vary.", rich_help_panel=CONDITIONS)] = None,
    noise_level: Annotated[
        int | None, typer.Option(help="Noise on the small picture or image prompt.", rich_help_panel=CONDITIONS)
    ] = None,
    x: Annotated[
        str | None,
        typer.Option("-x", metavar="FIELD=A,B,…", help="Columns of one labelled grid.", rich_help_panel=SHEETS),
    ] = None,
    y: Annotated[
        str | None, typer.Option("-y", metavar="FIELD=A,B,…", help="Its rows.", rich_help_panel=SHEETS)
    ] = None,
    z: Annotated[
        str | None, typer.Option("-z", metavar="FIELD=A,B,…", help="Its blocks.", rich_help_panel=SHEETS)
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(help="So many from the first prompt to the second, or to --to-seed.", rich_help_panel=SHEETS),
    ] = None,
    to_seed: Annotated[int | None, typer.Option(help="Where the frames' noise goes.", rich_help_panel=SHEETS)] = None,
    preview: Annotated[
        Path | None, typer.Option("--preview-path", help="JPEG, rewritten at every step.", rich_help_panel=SHEETS)
    ] = None,
    taesd: Annotated[
        Path | None, typer.Option(help="A TAESD decoder for the previews.", rich_help_panel=SHEETS)
    ] = None,
) -> None:
    """Draw pictures from sentences.

    darkroom generate "a red house left of a yellow tree, at night" --seed 7
    """
    began = time.perf_counter()
    if batch < 1:
        raise InputError(f"the batch count is {batch}, wanted is at least 1")
    for name, value, known in (("dtype", dtype, DTYPES), ("choice of averaged weights", ema, EMA)):
        if value not in known:
            raise InputError(f"unknown {name} {value!r}; known are: {', '.join(known)}")

    from darkroom.pictures.picture_file import FORMATS, check_writable

    if form not in FORMATS:
        raise InputError(f"unknown format {form!r}; known are: {', '.join(FORMATS)}")
    check_writable(output)
    said = {name: value for name, value in context.params.items() if _is_said(context, name)}

    import torch

    from darkroom.nn.device import find_device
    from darkroom.types import Guidance, HighResolution, Request

    find_device(device)
    if threads is not None:
        if threads < 1:
            raise InputError(f"the number of threads is {threads}, wanted is at least 1")
        torch.set_num_threads(threads)

    pixels = read_pictures(
        image=image, mask=mask, target=target, image_prompt=image_prompt, segmentation=segmentation, depth=depth
    )
    inputs = {k: pixels[k] for k in ("image_prompt", "segmentation", "depth") if pixels[k] is not None}
    given = {"class": class_label, "boxes": read_boxes(boxes), "noise_level": noise_level}
    inputs |= {k: v for k, v in given.items() if v is not None}
    if outpaint is not None:
        from darkroom.pictures.outpaint import extended

        if pixels["image"] is None:
            raise InputError("outpainting needs a picture to add to: give it with --init-img")
        sides = numbers("--outpaint", outpaint, 4, int)
        pixels["image"], pixels["mask"] = extended(pixels["image"], *sides)
    tags = "".join(lora_tag(entry) for entry in lora or [])
    request = Request(
        negative_prompt=negative,
        width=width,
        height=height,
        steps=steps,
        guidance_scale=guidance_scale,
        sampler=sampler,
        schedule=schedule,
        sigmas=None if sigmas is None else tuple(numbers("--sigmas", sigmas, None, float)),
        sampler_options=dict(setting(entry) for entry in sampler_option or []),
        image=pixels["image"],
        mask=pixels["mask"],
        mask_blur=mask_blur,
        strength=strength,
        hires=None if hires is None else HighResolution(hires, hires_strength, hires_steps, hires_upscaler),  # type: ignore[arg-type]
        target=pixels["target"],
        target_strength=target_strength,
        guidance=Guidance(
            rescale=rescale,
            interval=shares("--guidance-interval", interval),
            dynamic_threshold=dynamic_threshold,
            pag_scale=pag_scale,
            apg=apg,
        ),
        regions=tuple(region_of(entry) for entry in region or []),
        deepcache_interval=deepcache_interval,
        tome_ratio=tome_ratio,
        emphasis=emphasis,
        clip_skip=clip_skip,
        seed_mode=seed_mode,
        variation_seed=variation_seed,
        variation_strength=variation_strength,
        inputs=inputs,
    )
    prompts = [*(prompts or []), *(prompt or [])]
    found: Found | None = None
    if like is not None:
        from darkroom.requests.records import read_picture

        found = read_picture(like)
        request = alike(found, request, said)
        prompts, seed = prompts or [request.prompt], request.seed if seed is None else seed
    check_companions(said, request)
    first = int(torch.randint(2**31, ()).item()) if seed == -1 else seed or 0
    from dataclasses import replace

    request = replace(request, seed=first)
    named = [tags + prompt for prompt in prompts or [""]]
    axes: list[Axis] = []
    if x or y or z:
        from darkroom.requests.xyz import grid_requests, parse_axis

        if (y and not x) or (z and not y) or len(named) > 1 or batch > 1 or frames is not None:
            raise InputError("a grid takes one prompt and its axes in the order -x, -y, -z, without --frames or -b")
        axes = [parse_axis(axis) for axis in (x, y, z) if axis]
        requests = grid_requests(replace(request, prompt=named[0]), axes)
    elif frames is not None:
        from darkroom.requests.interpolation import interpolated

        if len(named) > 2 or batch > 1:
            raise InputError("frames go from one prompt to a second, without -b")
        last = replace(request, prompt=named[-1], seed=first if to_seed is None else to_seed)
        requests = interpolated(replace(request, prompt=named[0]), last, frames)
    else:
        requests = [replace(request, prompt=prompt, seed=first + i) for prompt in named for i in range(batch)]
    told = bool(prompts) or any(r.prompt or r.inputs or r.image is not None for r in requests)
    draw(
        requests,
        Models(
            model,
            vae,
            prediction,
            ema,
            tuple(lora_dir or ()),
            refiner,
            switch_at,
            device,
            dtype,
            memory,
            compiled,
            quantize,
        ),
        Output(output, form, axes, preview, taesd),
        found,
        began,
        told=told,
    )


def _is_said(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"

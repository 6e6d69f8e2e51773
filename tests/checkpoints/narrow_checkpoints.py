"""Catalogue systems with all their parts and few channels, random in every parameter, and their Diffusers peers."""

import functools
import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from darkroom.checkpoints.diffusers_config import component_configs, model_index, scheduler_configs
from darkroom.conditioning.bert_text import BertTextConfig
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.conditioning.depth import DepthMapConfig
from darkroom.conditioning.image_prompt import ImagePromptConfig
from darkroom.conditioning.size_and_crop import NumbersConfig
from darkroom.models.bottleneck import VQConfig
from darkroom.models.depth import DepthConfig
from darkroom.models.vision import VisionConfig
from darkroom.systems import SYSTEMS, System
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.narrow import MERGES, WORDS
from darkroom.systems.narrow import write_narrow_vocabulary as write_vocabulary

__all__ = [
    "MERGES",
    "VOCABULARY",
    "narrow",
    "peer_class",
    "peers_of_folder",
    "random_model",
    "randomise",
    "write_peers",
    "write_vocabulary",
]

VOCABULARY = len(WORDS)
TOWER_WIDTHS = {768: 32, 1024: 48, 1280: 64}
DEPTH = DepthConfig(32, (128, 128, 256), (1, 2, 1), 32, 4, 4, (2, 3), 16, image_size=64)


@functools.cache
def narrow(name: str) -> System:
    """`name` with 32 channels, one residual block, at most two transformer blocks in a row, towers of two layers."""
    system = SYSTEMS[name]
    embedders = tuple(_embedder(c) for c in system.embedders)
    towers = [t for c in embedders if isinstance(c, ClipTextEmbedderConfig) for t in c.towers]
    context = sum(t.tower.width for t in towers) or 40
    numbers = [c.width * (1 if "score" in c.kind else 2) for c in embedders if isinstance(c, NumbersConfig)]
    pooled = sum(t.tower.projection or 0 for t in towers if t.pooled)
    scores = 256 * sum(c.kind == "aesthetic_score" for c in embedders)
    vector = {"linear": pooled + sum(numbers) + scores or 48, "table": 1000, "none": 0}[system.unet.vector]
    unet = replace(
        system.unet,
        model_channels=32,
        num_res_blocks=1,
        depth=tuple(min(d, 2) for d in system.unet.depth),
        mid_depth=min(system.unet.mid_depth, 2),
        heads=system.unet.heads and min(system.unet.heads, 4),
        head_dim=system.unet.head_dim and 16,
        context_dim=system.unet.context_dim and context,
        vector_dim=vector,
    )
    bottleneck = system.autoencoder.bottleneck
    bottleneck = replace(bottleneck, codes=50) if isinstance(bottleneck, VQConfig) else bottleneck
    stage = replace(system.autoencoder, channels=32, num_res_blocks=1, decoder_res_blocks=2, bottleneck=bottleneck)
    return replace(system, unet=unet, autoencoder=stage, embedders=embedders)


def _embedder(config: Any) -> Any:
    match config:
        case ClipTextEmbedderConfig():
            towers = []
            for t in config.towers:
                width = TOWER_WIDTHS[t.tower.width]
                small = replace(t.tower, width=width, layers=2, heads=4, vocabulary=VOCABULARY, length=12)
                towers.append(replace(t, tower=replace(small, projection=t.tower.projection and width)))
            return replace(config, towers=tuple(towers))
        case BertTextConfig():
            return replace(config, width=40, layers=2, heads=4, head_dim=8, vocabulary=99)
        case ImagePromptConfig():
            tower = VisionConfig(32, 2, 4, config.tower.activation, 24, image_size=28)
            return replace(config, tower=tower)
        case DepthMapConfig():
            return replace(config, estimator=DEPTH)
        case _:
            return config


TABLE = re.compile(r"(token_|position_)embedding\.weight$|embed_(tokens|positions)\.weight$")


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random values in every parameter and statistic, also in those that begin as zero; norms stay near one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(module.state_dict().items()):
            if p.is_floating_point():
                noise = torch.randn(p.shape, generator=generator)
                if p.dim() > 1:
                    p.copy_(noise * (0.7 if TABLE.search(name) else p[0].numel() ** -0.5))
                else:
                    p.copy_(noise * 0.2 + (1 if name.endswith(("weight", "std")) else 0))
    return module.eval().requires_grad_(False)


@functools.cache
def random_model(name: str) -> LatentDiffusion:
    model = build(narrow(name))
    randomise(model)
    return model


LIBRARIES = {
    "LDMBertModel": "diffusers.pipelines.deprecated.latent_diffusion.pipeline_latent_diffusion",
    "StableUnCLIPImageNormalizer": "diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer",
}


def peer_class(config: dict[str, Any]) -> Any:
    name = config.get("_class_name") or config["architectures"][0]
    module = LIBRARIES.get(name, "diffusers" if "_class_name" in config else "transformers")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module.replace("deprecated.", "")), name)


def peers_of_folder(folder: Path, system: System) -> dict[str, nn.Module]:
    """Each component of a Diffusers folder, loaded by the peer; nothing may be missing or left over."""
    peers = {}
    for component, config in component_configs(system).items():
        model, info = peer_class(config).from_pretrained(folder / component, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        assert not info["mismatched_keys"]
        peers[component] = model.eval()
    return peers


def write_peers(folder: Path, system: System) -> dict[str, nn.Module]:
    """A Diffusers folder written by the peer, random in every parameter."""
    peers = {}
    for i, (component, config) in enumerate(component_configs(system).items()):
        kind = peer_class(config)
        if "_class_name" in config:
            peer = kind.from_config(config)
        else:
            peer = kind(kind.config_class.from_dict(config))
        peers[component] = randomise(peer, seed=i)
        peers[component].save_pretrained(folder / component)  # type: ignore[operator]
    (folder / "model_index.json").write_text(json.dumps(model_index(system)))
    (folder / "scheduler").mkdir()
    scheduler = json.dumps(scheduler_configs(system)["scheduler"])
    (folder / "scheduler" / "scheduler_config.json").write_text(scheduler)
    return peers

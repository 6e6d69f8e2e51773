"""The configuration files of a Diffusers folder: what each component is, the schedulers, and the index of them all."""

from __future__ import annotations

from typing import Any

from darkroom.checkpoints.diffusers import first_stage_component, text_components, vector_component
from darkroom.conditioning.bert_text import BertTextConfig
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.conditioning.depth import DepthMapConfig
from darkroom.conditioning.image_prompt import ImagePromptConfig
from darkroom.conditioning.low_resolution import LowResolutionConfig
from darkroom.conditioning.size_and_crop import NumbersConfig
from darkroom.diffusion.prediction import Prediction
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.errors import InputError
from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.bottleneck import VQConfig
from darkroom.models.clip import ClipTextConfig
from darkroom.models.depth import DepthConfig
from darkroom.models.unet import UNetConfig
from darkroom.models.vision import MEAN, STD, VisionConfig
from darkroom.systems.system import System

__all__ = [
    "component_configs",
    "has_pipeline",
    "image_processor_config",
    "model_index",
    "pipeline_class",
    "scheduler_configs",
]

Config = dict[str, Any]

# By the kinds of a system's embedders, sorted.
PIPELINES = {
    (): "LDMPipeline",
    ("bert_text",): "LDMTextToImagePipeline",
    ("low_resolution",): "LDMSuperResolutionPipeline",
    ("clip_text",): "StableDiffusionPipeline",
    ("clip_text", "masked_image"): "StableDiffusionInpaintPipeline",
    ("clip_text", "depth"): "StableDiffusionDepth2ImgPipeline",
    ("clip_text", "low_resolution"): "StableDiffusionUpscalePipeline",
    ("clip_text", "image_prompt"): "StableUnCLIPImg2ImgPipeline",
    ("clip_text", "numbers"): "StableDiffusionXLPipeline",
    ("aesthetic_score", "clip_text", "numbers"): "StableDiffusionXLImg2ImgPipeline",
}
PREDICTIONS = {Prediction.EPS: "epsilon", Prediction.V: "v_prediction", Prediction.X0: "sample"}


def pipeline_class(system: System) -> str:
    """The pipeline that runs `system` there; `InputError` if there is none."""
    if not has_pipeline(system):
        raise InputError(f"Diffusers has no pipeline for {system.name}; accepted is only --layout original")
    return PIPELINES[_kinds(system)]


def has_pipeline(system: System) -> bool:
    """Whether Diffusers' layout has a place for everything in `system`."""
    inexpressible = system.unet.attention == "block" and system.unet.head_dim is None
    return _kinds(system) in PIPELINES and not inexpressible


def _kinds(system: System) -> tuple[str, ...]:
    return tuple(sorted({config.kind for config in system.embedders}))


def component_configs(system: System) -> dict[str, Config]:
    """Component → the content of its `config.json`."""
    size = system.defaults.width // system.autoencoder.factor
    result = {
        "unet": _unet(system, size),
        first_stage_component(system): _first_stage(system),
    }
    for config in system.embedders:
        match config:
            case ClipTextEmbedderConfig():
                for tower, name in zip(config.towers, text_components(config)):
                    result[name] = _text(tower.tower, pooled=tower.pooled)
            case BertTextConfig():
                result["bert"] = _bert(config)
            case ImagePromptConfig():
                result["image_encoder"] = _vision(config.tower)
                result["image_normalizer"] = {
                    "_class_name": "StableUnCLIPImageNormalizer",
                    "embedding_dim": config.tower.projection,
                }
            case DepthMapConfig():
                result["depth_estimator"] = _depth(config.estimator)
            case _:
                pass
    return result


def _unet(system: System, size: int) -> Config:
    c: UNetConfig = system.unet
    deep, widths = [bool(d) for d in c.depth], [c.model_channels * m for m in c.channel_mult]
    result: Config = {
        "act_fn": "silu",
        "block_out_channels": widths,
        "center_input_sample": False,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": c.in_channels,
        "layers_per_block": c.num_res_blocks,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": c.out_channels,
        "sample_size": size,
    }
    if c.attention == "block":
        down = ["AttnDownBlock2D" if d else "DownBlock2D" for d in deep]
        up = ["AttnUpBlock2D" if d else "UpBlock2D" for d in reversed(deep)]
        return {
            "_class_name": "UNet2DModel",
            **result,
            "attention_head_dim": c.head_dim,
            "down_block_types": down,
            "up_block_types": up,
            "time_embedding_type": "positional",
        }
    result |= {
        "_class_name": "UNet2DConditionModel",
        # misnamed there: the number of heads
        "attention_head_dim": c.heads if c.head_dim is None else [c.head_count(w) for w in widths],
        "cross_attention_dim": c.context_dim,
        "down_block_types": ["CrossAttnDownBlock2D" if d else "DownBlock2D" for d in deep],
        "up_block_types": ["CrossAttnUpBlock2D" if d else "UpBlock2D" for d in reversed(deep)],
    }
    if c.linear_projections:
        result["use_linear_projection"] = True
    if c.upcast:
        result["upcast_attention"] = True
    if c.only_cross_attention:
        result["only_cross_attention"] = list(c.only_cross_attention)
    if set(c.depth) - {0, 1} or c.mid_depth > 1:
        # One number where all levels with attention and the middle agree; levels without it have any.
        same = {d for d in c.depth if d} == {c.mid_depth}
        result["transformer_layers_per_block"] = c.mid_depth if same else [d or 1 for d in c.depth]
    if c.vector == "table":
        result["num_class_embeds"] = c.vector_dim
    elif c.vector == "linear":
        result["projection_class_embeddings_input_dim"] = c.vector_dim
        widths = [config.width for config in system.embedders if isinstance(config, NumbersConfig)]
        if widths:
            result |= {"addition_embed_type": "text_time", "addition_time_embed_dim": widths[0]}
        else:
            result["class_embed_type"] = "projection"
    return result


def _first_stage(system: System) -> Config:
    c: AutoencoderConfig = system.autoencoder
    widths = [c.channels * m for m in c.channel_mult]
    result: Config = {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": widths,
        "down_block_types": ["AttnDownEncoderBlock2D" if a else "DownEncoderBlock2D" for a in c.attention],
        "up_block_types": ["AttnUpDecoderBlock2D" if a else "UpDecoderBlock2D" for a in reversed(c.attention)],
        "in_channels": c.image_channels,
        "latent_channels": c.z_channels,
        "layers_per_block": c.num_res_blocks,
        "norm_num_groups": 32,
        "out_channels": c.image_channels,
        "sample_size": system.defaults.width,
        "scaling_factor": system.latent_scale,
    }
    if vector_component(system) == "add_embedding":
        result["force_upcast"] = True  # overflows in half precision
    if not c.mid_attention:
        result["mid_block_add_attention"] = False
    if isinstance(c.bottleneck, VQConfig):
        result |= {"_class_name": "VQModel", "num_vq_embeddings": c.bottleneck.codes}
    return result


def _text(c: ClipTextConfig, *, pooled: bool) -> Config:
    name = "CLIPTextModelWithProjection" if pooled else "CLIPTextModel"
    return {
        "architectures": [name],
        "model_type": "clip_text_model",
        "bos_token_id": 0,
        "eos_token_id": 2,  # a slip of the first release, by which pooling there knows to look for the highest token
        "hidden_act": c.activation,
        "hidden_size": c.width,
        "intermediate_size": 4 * c.width,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": c.length,
        "num_attention_heads": c.heads,
        "num_hidden_layers": c.layers,
        "pad_token_id": 1,
        "projection_dim": c.projection or (c.width if c.activation == "quick_gelu" else 512),
        "vocab_size": c.vocabulary,
    }


def _bert(c: BertTextConfig) -> Config:
    return {
        "architectures": ["LDMBertModel"],
        "model_type": "ldmbert",
        "activation_function": "gelu",
        "d_model": c.width,
        "encoder_attention_heads": c.heads,
        "encoder_ffn_dim": 4 * c.width,
        "encoder_layers": c.layers,
        "head_dim": c.head_dim,
        "max_position_embeddings": c.length,
        "pad_token_id": 0,
        "vocab_size": c.vocabulary,
    }


def _vision(c: VisionConfig) -> Config:
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "hidden_act": c.activation,
        "hidden_size": c.width,
        "image_size": c.image_size,
        "intermediate_size": 4 * c.width,
        "layer_norm_eps": 1e-05,
        "num_attention_heads": c.heads,
        "num_hidden_layers": c.layers,
        "patch_size": c.patch,
        "projection_dim": c.projection,
    }


def _depth(c: DepthConfig) -> Config:
    bit = {
        "model_type": "bit",
        "depths": list(c.blocks),
        "embedding_size": c.stem,
        "hidden_sizes": list(c.stages),
        "embedding_dynamic_padding": True,
        "global_padding": "same",
        "layer_type": "bottleneck",
        "out_features": ["stage1", "stage2", "stage3"],
    }
    return {
        "architectures": ["DPTForDepthEstimation"],
        "model_type": "dpt",
        "backbone_config": bit,
        "backbone_featmap_shape": [1, c.stages[-1], c.side, c.side],
        "backbone_out_indices": [2, 5, *c.taps],
        "fusion_hidden_size": c.features,
        "hidden_act": "gelu",
        "hidden_size": c.width,
        "image_size": c.image_size,
        "intermediate_size": 4 * c.width,
        "is_hybrid": True,
        "layer_norm_eps": 1e-6,
        "neck_hidden_sizes": [*c.stages[:2], c.width, c.width],
        "neck_ignore_stages": [0, 1],
        "num_attention_heads": c.heads,
        "num_hidden_layers": c.layers,
        "patch_size": 16,
        "qkv_bias": True,
        "readout_type": "project",
        "reassemble_factors": [1, 1, 1, 0.5],
    }


def scheduler_configs(system: System) -> dict[str, Config]:
    """Component → the content of its `scheduler_config.json`."""
    s = system.schedule
    result: Config = {
        "beta_end": s.beta_end,
        "beta_schedule": {"scaled_linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}[s.kind],
        "beta_start": s.beta_start,
        "clip_sample": False,
        "num_train_timesteps": s.steps,
        "prediction_type": PREDICTIONS[system.prediction],
        "rescale_betas_zero_snr": s.zero_terminal_snr,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    result["_class_name"] = SAMPLERS[system.defaults.sampler].diffusers or "DDIMScheduler"
    if result["_class_name"] != "DDIMScheduler":
        result["timestep_spacing"] = "trailing" if system.defaults.schedule == "trailing" else "leading"
        for unknown in ("clip_sample", "set_alpha_to_one"):
            del result[unknown]
    if system.defaults.schedule == "karras":
        result["use_karras_sigmas"] = True
    found = {"scheduler": result}
    ddpm: Config = {"_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "prediction_type": "epsilon"}
    ddpm |= {"clip_sample": True, "variance_type": "fixed_small", "beta_start": 0.0001, "beta_end": 0.02}
    for config in system.embedders:
        if isinstance(config, LowResolutionConfig) and config.levels is not None:
            found["low_res_scheduler"] = {**ddpm, "beta_schedule": "scaled_linear"}
        if isinstance(config, ImagePromptConfig):
            found["image_noising_scheduler"] = {**ddpm, "beta_schedule": "squaredcos_cap_v2"}
    return found


def model_index(system: System) -> Config:
    """Which class each component has."""
    result: Config = {"_class_name": pipeline_class(system), "_diffusers_version": "0.30.0"}
    libraries = {"LDMBertModel": "latent_diffusion", "StableUnCLIPImageNormalizer": "stable_diffusion"}
    for name, config in component_configs(system).items():
        kind = config.get("_class_name") or config["architectures"][0]
        library = "diffusers" if "_class_name" in config else "transformers"
        result[name] = [libraries.get(kind, library), kind]
        if name.startswith("text_encoder"):
            result[name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
        if name == "bert":
            result["tokenizer"] = ["transformers", "BertTokenizer"]
    for name, config in scheduler_configs(system).items():
        result[name] = ["diffusers", config["_class_name"]]
    return result | _ADDITIONS.get(result["_class_name"], {})


# What each pipeline wants to be told beside its networks.
_NO_FILTER = {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
_ADDITIONS: dict[str, Config] = {
    "StableDiffusionPipeline": _NO_FILTER,
    "StableDiffusionInpaintPipeline": _NO_FILTER,
    "StableDiffusionDepth2ImgPipeline": {"feature_extractor": ["transformers", "DPTImageProcessor"]},
    "StableUnCLIPImg2ImgPipeline": {"feature_extractor": ["transformers", "CLIPImageProcessor"]},
    "StableDiffusionXLImg2ImgPipeline": {
        "text_encoder": [None, None],
        "tokenizer": [None, None],
        "requires_aesthetics_score": True,
        "force_zeros_for_empty_prompt": False,
    },
}


def image_processor_config(kind: str) -> Config:
    """The content of `preprocessor_config.json`."""
    if kind == "DPTImageProcessor":
        size = {"height": 384, "width": 384}
        half = [0.5, 0.5, 0.5]
        shape = {"size": size, "ensure_multiple_of": 32, "keep_aspect_ratio": True, "do_resize": True}
        return {"image_processor_type": kind, **shape, "do_normalize": True, "image_mean": half, "image_std": half}
    shape = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    return {"image_processor_type": kind, **shape, "image_mean": list(MEAN), "image_std": list(STD)}

"""Names in single files of the original layout, as they are and as they were. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from darkroom.checkpoints.stored import Stored

__all__ = ["OPTIONAL", "UNET", "ema_name", "is_ignored", "is_of_generative_models", "modern_name", "modern_tensor"]

UNET = "model.diffusion_model."
OPTIONAL = ("noise_augmentor.data_mean", "noise_augmentor.data_std")  # the reference reads them from elsewhere

# What released files carry beside the weights that a system uses. Anything else that is left over is an error.
_BAGGAGE = re.compile(
    r"""
    (sqrt_(one_minus_|recip_|recipm1_)?|log_one_minus_)?alphas_cumprod(_prev)? | betas | logvar | scale_factor
    | posterior_(variance|log_variance_clipped|mean_coef1|mean_coef2)
    | ddim_(sigmas|alphas|alphas_prev|sqrt_one_minus_alphas)(_for_original_num_steps)?
    | lvlb_weights | embedding_manager\..* | .*\.attn_mask  # of early finetunes and of merges
    | denoiser\.sigmas | v_pred | ztsnr | edm_mean | edm_std
    | (low_scale_model|noise_augmentor|model_ema|loss|first_stage_model\.loss|first_stage_model\.model_ema)\..*
    | .*\.(position_ids|logit_scale|text_projection(\.weight)?)
    | cond_stage_model\.(encoder|decoder|quant_conv|post_quant_conv|quantize|loss)\..*  # a copy of the first stage
    | (cond_stage_model|conditioner\.embedders\.0)\.model\.transformer\.resblocks\.23\..*  # never run
    | embedder\.model\.(transformer|token_embedding|ln_final)\..*  # the text half
    | embedder\.model\.positional_embedding
    | depth_model\.model\.pretrained\.model\.head\.(weight|bias)  # the classifier of its first training
    """,
    re.VERBOSE,
)


def is_of_generative_models(names: Iterable[str]) -> bool:
    """Whether a file was written by generative-models (SDXL, the Turbo models)."""
    return any(name.startswith("conditioner.embedders.") for name in names)


def is_ignored(name: str) -> bool:
    """Whether a tensor that no network reads is known and harmless."""
    return _BAGGAGE.fullmatch(name) is not None


_CONVERTED_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "group_norm": "norm"}
_CONVERTED = re.compile(r"(.*\.mid\.attn_1)\.(to_q|to_k|to_v|to_out\.0|group_norm)\.(weight|bias)")


def modern_name(name: str) -> str:
    """Later finetunes drop `text_model.` from the names of the text encoder; some converters left Diffusers' names of
    the first stage's attention."""
    if match := _CONVERTED.fullmatch(name):
        return f"{match[1]}.{_CONVERTED_ATTENTION[match[2]]}.{match[3]}"
    prefix, middle, rest = name.partition("cond_stage_model.transformer.")
    if middle and rest.split(".")[0] in ("embeddings", "encoder", "final_layer_norm"):
        return f"{prefix}{middle}text_model.{rest}"
    return name


def modern_tensor(name: str, stored: Stored) -> tuple[str, Stored]:
    """Name and tensor as released files have them. Some converters kept transformers' projection of OpenCLIP's tower,
    which is the transpose: it is read across."""
    name = modern_name(name)
    if name.endswith(".model.text_projection.weight") and len(stored.shape) == 2 and stored.stride is None:
        across = replace(stored, shape=stored.shape[::-1], stride=(1, stored.shape[1]))
        return name.removesuffix(".weight"), across
    return name, stored


def ema_name(name: str) -> str:
    """Where the running average of a UNet's tensor lies: all dots of the name in the diffusion wrapper removed."""
    return "model_ema." + name.removeprefix("model.").replace(".", "")

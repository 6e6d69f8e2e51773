"""Names in Diffusers' folders, component included, as they are and as they were. No torch."""

from __future__ import annotations

__all__ = ["is_ignored", "modern_name"]


def is_ignored(name: str) -> bool:
    """Whether a tensor that no network reads is known and harmless."""
    return name.endswith(".position_ids") or name.startswith(("safety_checker/", "feature_extractor/"))


_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def modern_name(name: str) -> str:
    """Today's spelling of a tensor's name, component included.

    Until the middle of 2023 plain attention was stored as query, key, value and proj_attn; transformers from 5 on
    leaves out `text_model.`.
    """
    component, _, rest = name.partition("/")
    pieces = rest.split(".")
    if component in ("unet", "vae", "vqvae") and len(pieces) > 2 and pieces[-2] in _OLD_ATTENTION:
        pieces[-2] = _OLD_ATTENTION[pieces[-2]]
    if component.startswith("text_encoder") and pieces[0] in ("embeddings", "encoder", "final_layer_norm"):
        pieces.insert(0, "text_model")
    return f"{component}/{'.'.join(pieces)}"

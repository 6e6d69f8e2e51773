"""Every reader of what people bring, and how cases for it are made."""

from __future__ import annotations

from tests.fuzz import ballots, bodies, controls, data, runs, settings, texts, weights
from tests.fuzz.run import Reader

__all__ = ["READERS"]

READERS = (
    Reader("safetensors", weights.safetensors_bytes, 2000),
    Reader("torch", weights.torch_bytes, 2000),
    Reader("shards", weights.shard_index),
    Reader("loras", weights.loras),
    Reader("peft", weights.peft_configurations, 40),
    Reader("embeddings", weights.embeddings),
    Reader("single", weights.single_files, 30),
    Reader("diffusers", texts.diffusers_folders, 20),
    Reader("native", texts.native_folders, 20),
    Reader("stages", weights.first_stages, 30),
    Reader("tokenizers", texts.tokenizers),
    Reader("prompts", texts.prompts, 500),
    Reader("pictures", texts.pictures),
    Reader("records", texts.records),
    Reader("recipes", texts.recipes),
    Reader("picture tables", data.picture_tables),
    Reader("kohya", data.kohya_files),
    Reader("boxes", data.boxes),
    Reader("shards of pictures", data.shards),
    Reader("preferences", settings.preferences),
    Reader("model paths", settings.model_paths),
    Reader("prompt files", settings.prompt_files),
    Reader("statistics", settings.statistics),
    Reader("studies", settings.studies, 50),
    Reader("system files", settings.system_files),
    Reader("control networks", controls.control_networks, 40),
    Reader("image encoders", controls.image_encoders, 40),
    Reader("based recipes", runs.based_recipes),
    Reader("runs", runs.run_folders, 30),
    Reader("journals", runs.journals),
    Reader("stores", runs.stores, 30),
    Reader("bodies", bodies.bodies, 60),
    Reader("ballots", ballots.ballots),
)

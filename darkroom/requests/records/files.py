"""The files besides the model that a picture was made with: named in its record, and compared when it is repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from darkroom.checkpoints.embeddings import embedding_hash
from darkroom.checkpoints.fingerprint import lora_hash
from darkroom.conditioning.embedding import Embedding
from darkroom.prompts.embeddings import embeddings_of
from darkroom.requests.plan import Plan
from darkroom.requests.records.found import Found

__all__ = ["files_of", "other_files"]


def files_of(plan: Plan, find_lora: Callable[[str], Path]) -> dict[str, object]:
    """The LoRAs and embeddings that the prompts of `plan` name, as A1111 writes them. `find_lora`: the file of a LoRA
    by its name."""
    listed = {"Lora hashes": _loras(plan, find_lora), "TI hashes": _embeddings(plan)}
    return {
        key: ", ".join(f"{name}: {digest}" for name, digest in files.items()) for key, files in listed.items() if files
    }


def other_files(found: Found, plan: Plan, find_lora: Callable[[str], Path]) -> Iterator[str]:
    """Which files of `found` those that `plan` runs with are not, in words."""
    kinds = (
        ("LoRA", found.lora_hashes, _loras(plan, find_lora)),
        ("embedding", found.embedding_hashes, _embeddings(plan)),
    )
    for kind, theirs, ours in kinds:
        here = {name.lower(): digest for name, digest in ours.items()}
        for name, digest in theirs.items():
            own = here.get(name.lower())
            if own is None:
                yield f"the {kind} {name} [{digest}], which no prompt names or no folder holds"
            elif not own.startswith(digest.lower()[: len(own)]):
                yield f"the {kind} {name} [{digest}]; this one is [{own}]"


def _loras(plan: Plan, find: Callable[[str], Path]) -> dict[str, str]:
    return {tag.name: lora_hash(find(tag.name)) for tag in plan.prompt.loras}


def _embeddings(plan: Plan) -> Mapping[str, str]:
    """Those that lie in files of their own; the others are part of a LoRA."""
    used: dict[str, Embedding] = {}
    for prompt in (plan.prompt, plan.negative, *plan.region_prompts):
        used |= {embedding.name: embedding for embedding in embeddings_of(prompt)}
    return {name: embedding_hash(e.file) for name, e in used.items() if e.file is not None}

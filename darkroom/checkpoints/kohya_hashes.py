"""The hashes by which A1111 and the pages that share LoRAs find a file again, whatever is noted in it later."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

__all__ = ["kohya_hashes"]

LEGACY_START, LEGACY_LENGTH = 0x100000, 0x10000


def kohya_hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """`sshs_model_hash`, SHA-256 of all behind the header; `sshs_legacy_hash`, eight digits of that of 64 KiB from the
    first MiB on, in a file whose only notes are those of the training (`ss_…`)."""
    told = {name: text for name, text in metadata.items() if name.startswith("ss_")}
    whole = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, told)
    behind = 8 + int.from_bytes(whole[:8], "little")
    legacy = whole[LEGACY_START : LEGACY_START + LEGACY_LENGTH]
    return {
        "sshs_model_hash": hashlib.sha256(memoryview(whole)[behind:]).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(legacy).hexdigest()[:8],
    }

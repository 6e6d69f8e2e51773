"""Cases for the readers of weights: damaged as bytes, or sound files of wrong names, shapes and numbers."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from narrow_checkpoints import narrow, random_model
from safetensors.torch import save
from torch import Tensor

from darkroom.checkpoints.convert import Content, write_original
from darkroom.checkpoints.embeddings import describe_embedding, read_embedding
from darkroom.checkpoints.first_stage import load_first_stage
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.inspect import inspect
from darkroom.checkpoints.lora import read_lora, write_lora
from darkroom.checkpoints.lora_names import kohya_names
from darkroom.checkpoints.native import read_network
from darkroom.checkpoints.open_file import open_weights, read_weights
from darkroom.checkpoints.source import Source, open_source
from darkroom.checkpoints.stored import MappedFile
from darkroom.errors import InputError
from darkroom.models.autoencoder import Autoencoder, AutoencoderConfig
from darkroom.nn.lora import LowRank
from tests.fuzz.mutation import HOSTILE, NASTY, json_bytes, mutate_bytes, mutate_json, mutate_text
from tests.fuzz.run import Case

__all__ = ["embeddings", "first_stages", "loras", "peft_configurations", "safetensors_bytes", "shard_index"]
__all__ += ["mutate_tensors", "single_files", "torch_bytes", "written"]

NAME = "sd-v1-5"


def _loaded(file: MappedFile) -> None:
    for stored in read_weights(file).values():
        assert stored.nbytes <= 1 << 16, "more is announced than the file holds"
        stored.load(torch.float32)


def safetensors_bytes(folder: Path) -> Case:
    tensors = {"a.weight": torch.ones(3, 4), "b": torch.ones(5, dtype=torch.float16), "c": torch.tensor(3)}
    good = save(tensors, {"note": "text"})
    length = int.from_bytes(good[:8], "little")
    header, data = good[8 : 8 + length], good[8 + length :]
    words = [b"F64", b"U8", b"[", b"{", b'"', b",", b"0", b"99999999999", b"-1", b"1e9", b"null", b"NaN", b'"shape":']

    def case(rng: random.Random) -> None:
        kind = rng.randrange(3)
        if kind == 0:
            content = mutate_bytes(good, rng, words)
        else:  # in the header, its length kept true
            table = json.dumps(mutate_json(json.loads(header), rng)).encode() if kind == 1 else None
            changed = table if table is not None else mutate_bytes(header, rng, words)
            content = len(changed).to_bytes(8, "little") + changed + data
        _loaded(MappedFile.from_bytes(content, "fuzzed"))

    return case


class Run:
    """Would create a file if anything called it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def torch_bytes(folder: Path) -> Case:
    mark = folder / "executed"
    opcodes = [bytes([code]) for code in b"()RRbboidescQ02}]\x81\x92\x93\x94\x85\x86\x87"]
    words = [*opcodes, b"cos\nsystem\n", b"cbuiltins\neval\n", b"X\x02\0\0\0ls\x85R", pickle.dumps(Run(str(mark)))]
    tensors = {"a": torch.ones(3, 4), "b": torch.ones(5, dtype=torch.float16)}
    good = {"state_dict": tensors, "global_step": 3, "callbacks": {Path: [Path("x")]}}
    learned = {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(2, 4))}), "name": "x"}
    files = []
    for content in (
        good,
        {**good, "evil": Run(str(mark))},
        learned,
    ):  # the second is refused unless a mutation hides it
        zipped, legacy = io.BytesIO(), io.BytesIO()
        torch.save(content, zipped)
        torch.save(content, legacy, _use_new_zipfile_serialization=False)
        with zipfile.ZipFile(zipped) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        files.append((zipped.getvalue(), legacy.getvalue(), records))
    mark.unlink(missing_ok=True)

    def case(rng: random.Random) -> None:
        zipped, legacy, records = rng.choice(files)
        root, kind = next(iter(records)).split("/")[0], rng.randrange(4)
        if kind < 2:
            content = mutate_bytes((zipped, legacy)[kind], rng, words)
        else:  # the pickle alone, in a sound archive
            changed = io.BytesIO()
            with zipfile.ZipFile(changed, "w") as archive:
                for name, record in records.items():
                    damaged = name == f"{root}/data.pkl"
                    archive.writestr(name, mutate_bytes(record, rng, words) if damaged else record)
            content = changed.getvalue()
        try:
            _loaded(MappedFile.from_bytes(content, "fuzzed"))
        finally:
            assert not mark.exists(), "code was run"

    return case


def shard_index(folder: Path) -> Case:
    for i in (1, 2):
        (folder / f"m-{i}.safetensors").write_bytes(save({f"t{i}": torch.ones(2)}))
    good = {"metadata": {"total_size": 16}, "weight_map": {"t1": "m-1.safetensors", "t2": "m-2.safetensors"}}

    def case(rng: random.Random) -> None:
        path = folder / "m.safetensors.index.json"
        path.write_bytes(json_bytes(good, rng))
        for stored in open_weights(path).values():
            stored.load(torch.float32)

    return case


DTYPES = (torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.uint8, torch.bool, torch.float8_e4m3fn)


def mutate_tensors(tensors: Mapping[str, Tensor], rng: random.Random, names: list[str]) -> dict[str, Tensor]:
    """A few tensors gone, renamed, or with other shapes, kinds of numbers or values."""
    result = dict(tensors)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(list(result) or ["x"])
        tensor = result.pop(name, torch.ones(1))
        kind = rng.randrange(7)
        if kind == 1:
            name = rng.choice((name[: rng.randrange(len(name))], name + rng.choice(NASTY[:6]), rng.choice(names)))
            name = name.encode("utf-8", "replace").decode()
        elif kind == 2:
            sizes = [rng.choice((0, 1, 2, 3, n, n + 1, 4096)) for n in tensor.shape[: rng.randrange(5)]]
            tensor = torch.ones(sizes) if torch.Size(sizes).numel() < 1 << 16 else torch.ones(1)
        elif kind == 3:
            tensor = tensor.flatten() if rng.random() < 0.5 else tensor[None]
        elif kind == 4:
            tensor = tensor.to(rng.choice(DTYPES))
        elif kind == 5:
            tensor = torch.full_like(tensor.float(), rng.choice((torch.nan, torch.inf, -1e30, 1e30, 0.0)))
        if kind:
            result[name or "x"] = tensor.contiguous()
    return result


def written(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    path.write_bytes(save({n: t.clone() for n, t in tensors.items()}, dict(metadata or {})))
    return path


PARTS = (
    *("lora_down.weight", "lora_up.weight", "lora_mid.weight", "alpha", "dora_scale", "diff", "diff_b", "w_norm"),
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w2_b", "lokr_t2"),
    *("lora_A.weight", "lora_B.bias", "lora_magnitude_vector"),
)


def loras(folder: Path) -> Case:
    system, model = narrow(NAME), random_model(NAME)
    keys = [f"{key}.{part}" for key in list(kohya_names(system).values())[:40:4] for part in PARTS]
    ends = (".to_q", "conv1", "ff_in")
    chosen = [n for n, m in model.named_modules() if n.endswith(ends) and n.startswith(("unet.down", "conditioner"))]
    given = {n: LowRank.fresh(model.get_submodule(n), 2) for n in chosen[:6]}  # type: ignore[arg-type]
    write_lora(folder / "good.safetensors", given, system, {})
    good = {n: s.load().clone() for n, s in open_weights(folder / "good.safetensors").items()}
    good |= {f"{kohya_names(system)[chosen[0]]}.dora_scale": torch.ones(32, 1)}
    good |= {"bundle_emb.x.string_to_param.*": torch.ones(1, 32)}

    assert len(read_lora(written(folder / "good.safetensors", good), system).adapters) == 6

    def case(rng: random.Random) -> None:
        tensors = mutate_tensors(good, rng, keys)
        path = folder / rng.choice(("x.safetensors", "x.pt"))
        if path.suffix == ".pt":
            torch.save(tensors, path)
        else:
            written(path, tensors, {"ss_base_model_version": rng.choice(("sd_v1", "sd_v1", "sd_v1", "xl", "\x1b[2J"))})
        inspect(path, hashed=rng.random() < 0.2)
        read_lora(path, system, torch.float32)

    return case


def peft_configurations(folder: Path) -> Case:
    module = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    pair = {f"base_model.model.{module}.lora_A.weight": torch.ones(2, 32)}
    pair |= {f"base_model.model.{module}.lora_B.weight": torch.ones(32, 2)}
    config: dict[str, Any] = {"r": 2, "lora_alpha": 4, "use_rslora": True, "peft_type": "LORA"}
    config |= {"alpha_pattern": {"^down.*to_q": 3, "attn1.to_q": 1}, "rank_pattern": {r"(a|b)\d+[x-z]?to_k": 4}}
    words = ("(", ")*", "a+", "[^", "\\", "|", "{3}", ".*", "(?=", "(?:", "^", "$")

    def case(rng: random.Random) -> None:
        changed = mutate_json(config, rng)
        if isinstance(changed, dict) and rng.random() < 0.5:
            changed["alpha_pattern"] = {mutate_text("^down.*(to_q|to_k)", rng, words): 3}
        inside = rng.random() < 0.5
        metadata = {"lora_adapter_metadata": json.dumps(changed)} if inside else None
        path = written(folder / "adapter_model.safetensors", pair, metadata)
        (folder / "adapter_config.json").unlink(missing_ok=True)
        if not inside:
            (folder / "adapter_config.json").write_bytes(
                json_bytes(config, rng) if rng.random() < 0.3 else json.dumps(changed).encode()
            )
        read_lora(path, narrow(NAME))

    return case


def embeddings(folder: Path) -> Case:
    names = ["emb_params", "clip_l", "clip_g", "<x>", "string_to_param.*"]

    def case(rng: random.Random) -> None:
        good = {rng.choice(names): torch.ones(2, rng.choice((32, 48, 64))) for _ in range(rng.choice((1, 1, 2)))}
        path = folder / rng.choice(("x.safetensors", "x.pt"))
        tensors = mutate_tensors(good, rng, names) if rng.random() < 0.9 else good
        if path.suffix == ".pt":
            torch.save(rng.choice((tensors, {"string_to_param": tensors, "name": rng.choice(HOSTILE)})), path)
        else:
            written(path, tensors)
        describe_embedding(open_weights(path))
        read_embedding(path, narrow(rng.choice((NAME, "sdxl-base", "ldm_celeba256"))))

    return case


def single_files(folder: Path) -> Case:
    write_original(Content.of_model(random_model(NAME)), folder / "good.safetensors")
    good = dict(open_source(folder / "good.safetensors").tensors)
    names = list(good)
    extra = {n: s.load().clone() for n, s in list(good.items())[:3]}

    def case(rng: random.Random) -> None:
        path = folder / "x.safetensors"
        few = mutate_tensors(
            {**extra, **{n: good[n].load() for n in rng.sample(names, 3)}}, rng, [*names, "scale_factor", "v_pred"]
        )
        if rng.random() < 0.3:  # a file of few tensors, whole
            inspect(
                written(path, few, {"modelspec.title": rng.choice(NASTY[:6]).encode("utf-8", "replace").decode()}),
                hashed=False,
            )
        written(path, few)
        damaged = {**{n: s for n, s in good.items() if n not in extra}, **open_weights(path)}
        source = Source(path, "original", damaged, {"modelspec.prediction_type": rng.choice(("v", "\x1b", ""))})
        (folder / "x.json").write_bytes(json_bytes({"prediction_type": "v_prediction"}, rng))
        identify(source, system=narrow(NAME) if rng.random() < 0.97 else None)

    return case


def first_stages(folder: Path) -> Case:
    config = replace(narrow(NAME).autoencoder, channel_mult=(1, 2), attention=(False, False), decoder_res_blocks=1)
    tensors = Autoencoder(config).state_dict()
    described = {"config": json.dumps({"channels": 32}), "training": "{}"}

    def case(rng: random.Random) -> None:
        path = folder / "x.safetensors"
        written(path, mutate_tensors(tensors, rng, list(tensors)), {**described, "config": _json_text(rng)})
        try:
            load_first_stage(str(path), config)
        except InputError:
            read_network(path, AutoencoderConfig)

    return case


def _json_text(rng: random.Random) -> str:
    return json_bytes({"channels": 32, "channel_mult": [1, 2], "attention": [False, True]}, rng).decode(
        "utf-8", "replace"
    )

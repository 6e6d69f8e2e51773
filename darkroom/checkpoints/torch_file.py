"""`.ckpt`, `.pt`, `.pth`, `.bin`: files of `torch.save`, zipped (since torch 1.6) or in the older plain layout.

The pickle inside is read by the machine that cannot run code; only the few calls by which torch describes a tensor are
understood. Optimisers, callbacks and whatever else a training framework left there stay inert.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeGuard

from darkroom.checkpoints.pickle_machine import (
    DICTS,
    MAX_BYTES,
    Call,
    Global,
    PersistentId,
    PickleError,
    load_pickle,
)
from darkroom.checkpoints.stored import MappedFile, Stored, Weights, is_proportioned, size_of
from darkroom.checkpoints.zip_directory import Record, read_zip_directory
from darkroom.errors import InputError

__all__ = ["LEGACY_MAGIC", "read_torch_legacy", "read_torch_zip"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older layout
NESTED = ("model_state_dict", "model", "params_ema", "params", "module")  # where others put the state dict
WORDS = "string_to_param"  # where embeddings (textual inversion) have theirs
NOTES = ("global_step", "epoch", "pytorch-lightning_version")

_KINDS = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
_KINDS_V3 = {
    f"torch.{name}": name
    for name in (
        *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
        *("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool"),
    )
}
_Places = Callable[[object], "Record | None"]  # storage key -> its bytes


def read_torch_zip(file: MappedFile) -> Weights:
    """The state dict of a zipped file. Raises `InputError` naming file and cause."""
    records = read_zip_directory(file)
    pickles = [name for name in records if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InputError(f"{file.path} is a zip file but not one of torch: it holds no single data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    order = records.get(root + "byteorder")
    if order is not None and file.bytes(order.start, order.stop) != b"little":
        raise InputError(f"{file.path} was saved on a big-endian machine, which is not supported")
    place = records[pickles[0]]
    if place.stop - place.start > MAX_BYTES:
        raise InputError(f"{file.path}: its pickle has {place.stop - place.start} bytes, accepted are {MAX_BYTES}")
    pickled = load_pickle(file.bytes(place.start, place.stop), str(file.path))
    return _weights(file, pickled.value, lambda key: records.get(f"{root}data/{key}"), "torch zip")


def read_torch_legacy(file: MappedFile) -> Weights:
    """The state dict of a file in the older layout: magic, version, system, value, storage keys, then the storages."""
    where, at, values = str(file.path), 0, []
    for _ in range(5):
        values.append(load_pickle(file.bytes(at, at + MAX_BYTES), where))
        at += values[-1].size
        if values[0].value != LEGACY_MAGIC:
            raise InputError(f"{where} is a pickle but not one of torch.save")
    _, _, system, root, keys = values
    if isinstance(system.value, dict) and system.value.get("little_endian") is False:
        raise InputError(f"{where} was saved on a big-endian machine, which is not supported")
    widths: dict[str, int] = {}
    for reference in root.references:
        described = _describe_storage(reference)
        if described is not None:
            widths[str(described[0])] = size_of(described[1])
    if not isinstance(keys.value, list) or not all(isinstance(k, str) and k in widths for k in keys.value):
        raise PickleError(f"{where}: the list of storages is damaged")
    places: dict[str, Record] = {}
    for key in keys.value:
        size = int.from_bytes(file.bytes(at, at + 8), "little") * widths[key]
        places[key] = Record(at + 8, at + 8 + size)
        at += 8 + size
        if at > file.size:
            raise InputError(f"{where} is truncated: a storage of {size} bytes reaches beyond its {file.size} bytes")
    return _weights(file, root.value, lambda key: places.get(str(key)), "torch legacy")


def _weights(file: MappedFile, root: object, places: _Places, kind: str) -> Weights:
    # A bare tuple of tensors, as statistics are stored, is read as a table by position.
    table = _as_dict({str(i): value for i, value in enumerate(root)} if isinstance(root, tuple) else root)
    if table is None:
        what = f"an object of {_called(root)[0][:100]}" if _called(root)[0] else f"a {type(root).__name__}"
        raise InputError(f"{file.path} holds {what}, expected is a table of tensors (a state dict)")
    notes = {name: str(table[name]) for name in NOTES if isinstance(table.get(name), (int, str))}
    learned = {f"{WORDS}.{word}": vectors for word, vectors in (_as_dict(table.get(WORDS)) or {}).items()}
    nested = (_as_dict(table.get(name)) for name in NESTED)
    # Tables of tables, as IP-Adapters have them: one dot for each step inside.
    inside = {name: _as_dict(value) or {} for name, value in table.items()}
    joined = {f"{name}.{key}": value for name, inner in inside.items() for key, value in inner.items()}
    candidates = [learned, _as_dict(table.get("state_dict")), table, *nested, joined]
    for candidate in candidates:
        entries = {}
        for name, value in (candidate or {}).items():
            stored = _tensor(file, str(name), value, places)
            if stored is not None:
                entries[str(name)] = stored
        if entries:
            return Weights(file.path, entries, notes, kind)
    raise InputError(f"{file.path} holds no tensors, neither under 'state_dict' nor at the top")


def _called(value: object) -> tuple[str, tuple[object, ...]]:
    """Name and arguments of a call; empty if the value is something else."""
    if isinstance(value, Call) and isinstance(value.function, Global):
        return value.function.name, value.arguments if isinstance(value.arguments, tuple) else ()
    return "", ()


def _as_dict(value: object) -> dict[object, object] | None:
    """A dict, or what stands for one: the pairs of an old OrderedDict, or an unknown class that was filled like one."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Call) and value.items is not None:
        return value.items
    name, arguments = _called(value)
    if isinstance(value, Call) and name.endswith(".ParameterDict") and isinstance(value.state, dict):
        return _as_dict(value.state.get("_parameters"))
    if name in DICTS and arguments and isinstance(arguments[0], list):
        pairs = arguments[0]
        two = [p for p in pairs if isinstance(p, (list, tuple)) and len(p) == 2]
        return {key: item for key, item in two if isinstance(key, str)}
    return None


def _describe_storage(reference: object) -> tuple[object, str, int] | None:
    """Key, kind of elements and element count of what a persistent id refers to; None if it is no storage."""
    value = reference.value if isinstance(reference, PersistentId) else None
    if not isinstance(value, tuple) or len(value) < 5 or value[0] != "storage" or not isinstance(value[1], Global):
        return None
    kind = _KINDS.get(value[1].name.rpartition(".")[2])
    if kind is None or not isinstance(value[2], (str, int)) or not _is_count(value[4]):
        return None
    return value[2], kind, value[4]


def _tensor(file: MappedFile, name: str, value: object, places: _Places) -> Stored | None:
    """What a description of a tensor stands for, bounds checked; None if the value is something else."""

    def wrong(cause: str) -> InputError:
        return InputError(f"{file.path}: tensor {name[:200]!r} {cause}")

    call, arguments = _called(value)
    if call.startswith("torch._utils._rebuild_parameter") and arguments:  # a parameter wraps a tensor
        call, arguments = _called(arguments[0])
    if not call.startswith("torch._utils._rebuild_tensor"):
        return None
    if len(arguments) < 4:
        raise wrong("is described by too few values")
    storage, offset, sizes, strides = arguments[:4]
    described = _describe_storage(storage)
    if described is None:
        raise wrong("lies in a storage of an unknown kind")
    key, kind, count = described
    if call.endswith("_v3"):
        named = arguments[6] if len(arguments) > 6 else None
        if not isinstance(named, Global) or named.name not in _KINDS_V3:
            raise wrong("has an unknown type of elements")
        former, kind = kind, _KINDS_V3[named.name]
        count = count * size_of(former) // size_of(kind)
    shape, stride = _sizes(sizes), _sizes(strides)
    if shape is None or stride is None or len(shape) != len(stride) or not _is_count(offset):
        raise wrong("has a shape or strides that are not lists of sizes")
    place = places(key)
    if place is None:
        raise wrong("lies in a storage that is not in the file: truncated?")
    if not is_proportioned(shape):
        raise wrong(f"is empty and has a shape out of all proportion, {list(shape)}")
    numel = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride)) if numel else offset - 1
    # A stride of 0 would let a few bytes describe a tensor of any size.
    if count * size_of(kind) > place.stop - place.start or last >= count or numel > count:
        raise wrong(f"of shape {list(shape)} does not fit into its storage of {place.stop - place.start} bytes")
    plain = _is_contiguous(shape, stride) or not numel
    return Stored(file, place.start + offset * size_of(kind), kind, shape, None if plain else stride)


def _is_contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    return all(n == 1 or s == math.prod(shape[i + 1 :]) for i, (n, s) in enumerate(zip(shape, stride)))


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 1 << 48


def _sizes(value: object) -> tuple[int, ...] | None:
    name, arguments = _called(value)
    if name == "torch.Size" and arguments:
        value = arguments[0]
    if not isinstance(value, (tuple, list)) or len(value) > 16:
        return None
    sizes = tuple(v for v in value if _is_count(v))
    return sizes if len(sizes) == len(value) else None

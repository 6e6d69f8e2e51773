"""`darkroom evaluate pictures` and its kin: sets of pictures measured, whoever made them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkroom.errors import InputError

if TYPE_CHECKING:
    from darkroom.evaluation.compare import Comparison
    from darkroom.evaluation.features import FeatureNetwork
    from darkroom.evaluation.metric import Measured

__all__ = ["autoencoder", "copies", "pairs", "pictures", "prompts"]

FEATURES_HELP = "judge, inception=FILE, clip=FOLDER, dinov2=FILE, or their hub ids; may be given several times."
CACHE_HELP = "Where features, and what models draw, are kept; default: the user's cache."
PROMPTS_HELP = "What a model in the place of pictures draws: one prompt a line, or JSON lines."


def print_numbers(numbers: Mapping[str, Measured], names: Mapping[str, str] | None = None) -> None:
    """A table of values with their intervals; `names`: what papers call them."""
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "value", "95 %", "")
    for name, measured in numbers.items():
        low_high = "–" if measured.interval is None else " – ".join(f"{v:.4g}" for v in measured.interval)
        called = (names or {}).get(name, name)
        shown = name if called == name else f"{called} ({name})"
        table.add_row(shown, f"{measured.value:.4g}", low_high, measured.note)
    Console(width=120).print(table)


def pictures(
    folder: Annotated[
        str, typer.Argument(help="The pictures to measure: a folder or any other data set, or a model that draws them.")
    ],
    reference: Annotated[
        str, typer.Argument(help="What they are measured against, as before; .npz with mu and sigma will do.")
    ],
    prompts: Annotated[Path | None, typer.Option("--prompts", metavar="FILE", help=PROMPTS_HELP)] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="frechet, kernel, gaussian, score, neighbors, with commas; default: the usual ones."),
    ] = None,
    networks: Annotated[list[str] | None, typer.Option("--features", metavar="NETWORK", help=FEATURES_HELP)] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    processes: Annotated[int, typer.Option(help="Processes that compute features side by side.")] = 1,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Compute features of this share of the work only, and stop.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(metavar="FOLDER", help=CACHE_HELP)] = None,
    save_statistics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An .npz for mu and sigma of the pictures (one network).")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON file.")] = None,
) -> None:
    """Fréchet and kernel distances, Inception score, precision, recall, density, coverage of one set against another.

    A model is named as `-m` takes it, with settings: picturebook,steps=8. An interrupted command goes on where it was.
    Processes on several machines that share a cache take a share each.
    """
    from darkroom.evaluation.compare import compare
    from darkroom.evaluation.drawn_set import is_data
    from darkroom.evaluation.features import open_features
    from darkroom.evaluation.picture_set import default_cache, open_pictures
    from darkroom.evaluation.statistics import read_statistics, write_statistics
    from darkroom.nn.device import find_device
    from darkroom.whole_file import whole_file

    specs, cache = networks or ["judge"], cache or default_cache()
    if os.path.realpath(folder) == os.path.realpath(reference):
        raise InputError(f"both sets are {folder}: a set against itself says nothing")
    if save_statistics is not None and len(specs) > 1:
        raise InputError(f"--save-statistics takes one network, given are {len(specs)}")
    find_device(device)
    wanted = None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
    if folder.endswith(".npz"):
        raise InputError(f"statistics such as {folder} are what pictures are measured against: they stand second")
    known = read_statistics(Path(reference)) if reference.endswith(".npz") else None
    names = [folder, reference]
    measured = names if known is None else [folder]
    if shard is not None and not all(map(is_data, measured)):
        raise InputError("--shard shares out features of pictures that are there: let the model draw without it first")
    _for_models(prompts, measured)
    sets = [_pictures_of(name, prompts, device, cache) for name in measured]
    _compute(sets, specs, device, cache, processes, shard)
    if shard is not None:
        print(f"share {shard} of the features is in {cache}; without --shard the numbers follow when all shares are")
        return
    report: list[dict[str, Any]] = []
    with ExitStack() as files:  # a path that cannot be written is refused before any work
        file = None if output is None else files.enter_context(whole_file(output))
        for spec in specs:
            network = open_features(spec, device)
            found, seen = compare(open_pictures(sets[0]), known or open_pictures(sets[1]), network, wanted, cache)
            if save_statistics is not None:
                write_statistics(save_statistics, seen.moments, network.identity)
            report.append(_told(found, *names))
        if file is not None:
            file.write((json.dumps(report, indent=1) + "\n").encode())


def _told(found: Comparison, pictures: str, reference: str) -> dict[str, Any]:
    """Print what one network sees of the two sets of these names; returns it for the report."""
    from darkroom.evaluation.compare import published_name

    network = found.network
    print_numbers(found.numbers, {n: published_name(n, network.name) for n in found.numbers})
    against = "statistics" if found.reference is None else str(found.reference)
    print(f"{found.pictures} pictures of {pictures} against {against} of {reference}")
    print(f"seen through {network.name} [{network.digest}], {network.law}")
    for note in found.notes:
        print(f"note: {note}")
    return {
        **_seen_by(network),
        "pictures": found.pictures,
        "reference": found.reference,
        "notes": found.notes,
        "numbers": as_json(found.numbers),
    }


def _for_models(prompts: Path | None, names: Sequence[str]) -> None:
    """`InputError` for prompts that none of these sets would be drawn from."""
    from darkroom.evaluation.drawn_set import is_data

    if prompts is not None and all(map(is_data, names)):
        raise InputError(f"--prompts is what a model draws, and no model is among {', '.join(names)}")


def _pictures_of(name: str, prompts: Path | None, device: str, cache: Path) -> Path:
    """The data set of that name, or the folder of what the model of that name draws."""
    from darkroom.cli.compare import prompt_items
    from darkroom.evaluation.drawn_set import drawn_by, is_data

    if is_data(name):
        return Path(name)
    if prompts is None:
        raise InputError(f"there is no folder of pictures {name}; what a model is to draw is said with --prompts FILE")
    folder, drawn = drawn_by(name, prompt_items(prompts), device, cache / "drawn")
    print(f"{name}: {drawn} pictures drawn into {folder}")
    return folder


def as_json(numbers: Mapping[str, Measured]) -> dict[str, Any]:
    """Numbers as they stand in reports."""
    return {name: {"value": m.value, "interval": m.interval, "note": m.note} for name, m in numbers.items()}


def _compute(
    sets: Sequence[Path], specs: Sequence[str], device: str, cache: Path, processes: int, shard: str | None
) -> None:
    """Put the features into the cache where that is more than this process does by itself in passing."""
    from darkroom.evaluation.picture_set import compute_features

    if processes == 1 and shard is None:
        return
    share = (0, 1) if shard is None else _share(shard)
    for path in sets:
        for spec in specs:
            compute_features(path, spec, device, cache, processes=processes, shard=share)


def _share(text: str) -> tuple[int, int]:
    number, _, total = text.partition("/")
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise InputError(f"the shard is {text!r}, expected is 1/N to N/N")
    return int(number) - 1, int(total)


LPIPS_HELP = (
    "LPIPS weights (vgg.pth and lin layers, or a released first stage with them), or a classifier of the recipe."
)


def pairs(
    folder: Annotated[Path, typer.Argument(help="The pictures to measure.")],
    truth: Annotated[Path, typer.Argument(help="What each of them should be, under the same name.")],
    lpips: Annotated[Path | None, typer.Option(metavar="FILE", help=LPIPS_HELP)] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON file.")] = None,
) -> None:
    """PSNR, SSIM and LPIPS of pictures against those of the same name, whatever their file format."""
    from darkroom.evaluation.pairs import PairNumbers, paired
    from darkroom.evaluation.picture_set import open_pictures
    from darkroom.nn.device import find_device
    from darkroom.pixels import picture_tensor
    from darkroom.training.perceptual import load_distance
    from darkroom.whole_file import whole_file

    place = find_device(device)
    found = PairNumbers(None if lpips is None else load_distance(lpips, place))
    ours, theirs = open_pictures(folder), open_pictures(truth)
    with ExitStack() as files:
        file = None if output is None else files.enter_context(whole_file(output))
        for i, j in paired(ours, theirs):
            a, b = (picture_tensor(s.pixels(n))[None].to(place) for s, n in ((ours, i), (theirs, j)))
            found.update(a, b)
        numbers = found.result()
        if file is not None:
            report = {"pairs": len(found), "lpips": _digest(lpips), "numbers": as_json(numbers)}
            file.write((json.dumps(report, indent=1) + "\n").encode())
    print_numbers(numbers)
    print(f"{len(found)} pairs" + ("" if lpips is None else f"; LPIPS by {lpips.name} [{_digest(lpips)}]"))


def autoencoder(
    model: Annotated[
        str,
        typer.Argument(
            help="A checkpoint's file or folder, a hub id, a name, or a first stage that a recipe exported."
        ),
    ],
    data: Annotated[
        Path | None, typer.Argument(help="Pictures; default: unseen scenes of the picture-book world.")
    ] = None,
    vae: Annotated[str | None, typer.Option(metavar="MODEL", help="Another first stage's file or folder.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Middle squares of this side; default: pictures as they are.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="At most so many pictures; of scenes 256 by default.")] = None,
    features: Annotated[str, typer.Option(metavar="NETWORK", help="For rFID: judge, inception=FILE …")] = "judge",
    lpips: Annotated[Path | None, typer.Option(metavar="FILE", help=LPIPS_HELP)] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON file.")] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="PNG file: the first and the worst.")] = None,
) -> None:
    """What a first stage keeps of pictures: PSNR, SSIM, LPIPS, rFID, use of the codebook."""
    import dataclasses

    import torch
    from PIL import Image

    from darkroom.checkpoints.model import load_model
    from darkroom.errors import require
    from darkroom.evaluation.autoencoder import measure_stage, stage_pictures
    from darkroom.evaluation.features import open_features
    from darkroom.evaluation.picture_set import open_pictures
    from darkroom.nn.device import find_device
    from darkroom.training.model_ref import around_first_stage, is_exported
    from darkroom.training.perceptual import load_distance
    from darkroom.whole_file import whole_file

    for name, value in (("size", size), ("count", count)):
        require(value is None or value >= 2, f"the {name}", value, "at least 2")
    place = find_device(device)
    network, distance = open_features(features, device), None if lpips is None else load_distance(lpips, place)
    if vae is None and is_exported(Path(model)):
        loaded = around_first_stage(Path(model)).to(place)
    else:
        loaded = load_model(model, device, torch.float32, vae=vae).model
    source = stage_pictures(loaded, None if data is None else open_pictures(data), size, count)
    with ExitStack() as files:
        file = None if output is None else files.enter_context(whole_file(output))
        sheet_file = None if sheet is None else files.enter_context(whole_file(sheet))
        found = measure_stage(loaded, source, network, distance)
        if sheet_file is not None:
            Image.fromarray(found.sheet).save(sheet_file, format="PNG")
        if file is not None:
            report = {
                "pictures": found.pictures,
                **_seen_by(network),
                "lpips": _digest(lpips),
                "codebook": None if found.codebook is None else dataclasses.asdict(found.codebook),
                "numbers": as_json(found.numbers),
            }
            file.write((json.dumps(report, indent=1) + "\n").encode())
    print_numbers(found.numbers)
    print(f"{found.pictures} pictures; distance by {network.name} [{network.digest}], {network.law}")
    if lpips is not None:
        print(f"LPIPS by {lpips.name} [{_digest(lpips)}]")
    if (use := found.codebook) is not None:
        print(f"codebook: {use.used} of {use.codes} codes used, as evenly as {use.perplexity:.0f}")


def prompts(
    folder: Annotated[
        str, typer.Argument(help="Pictures with captions, the prompts that they were drawn from; or a model.")
    ],
    listed: Annotated[Path | None, typer.Option("--prompts", metavar="FILE", help=PROMPTS_HELP)] = None,
    features: Annotated[
        str, typer.Option(metavar="NETWORK", help="clip=FOLDER or a hub id; others tell variety alone.")
    ] = "judge",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    cache: Annotated[Path | None, typer.Option(metavar="FOLDER", help=CACHE_HELP)] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON file.")] = None,
) -> None:
    """CLIP score of pictures with their captions, and the variety of pictures of one prompt."""
    from darkroom.evaluation.features import open_features
    from darkroom.evaluation.picture_set import default_cache, open_pictures, read_features
    from darkroom.evaluation.prompts import clip_score, variety
    from darkroom.nn.device import find_device
    from darkroom.whole_file import whole_file

    find_device(device)
    network, kept = open_features(features, device), cache or default_cache()
    _for_models(listed, [folder])
    found = open_pictures(_pictures_of(folder, listed, device, kept))
    captions = [c for c in found.captions if c is not None]
    if len(captions) < len(found):
        first = found.dataset.name(found.captions.index(None))
        raise InputError(f"{len(found) - len(captions)} of {len(found)} pictures have no caption, the first is {first}")
    numbers: dict[str, Measured] = {}
    with ExitStack() as files:
        file = None if output is None else files.enter_context(whole_file(output))
        if network.texts is not None:
            numbers["clip score"] = clip_score(read_features(found, network, kept), captions, network)
        if network.texts is None or len(set(captions)) < len(captions):
            numbers |= variety(read_features(found, network, kept), captions)
        if file is not None:
            report = {"pictures": len(found), "prompts": len(set(captions)), **_seen_by(network)}
            file.write((json.dumps({**report, "numbers": as_json(numbers)}, indent=1) + "\n").encode())
    print_numbers(numbers)
    print(f"{len(found)} pictures of {len(set(captions))} prompts; {network.name} [{network.digest}], {network.law}")


def copies(
    folder: Annotated[Path, typer.Argument(help="The pictures to look through.")],
    training: Annotated[Path, typer.Argument(help="What the model was trained on.")],
    held_out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Pictures like the training set's that nobody trained on.")
    ] = None,
    features: Annotated[str, typer.Option(metavar="NETWORK", help="judge, dinov2=FILE …")] = "judge",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    cache: Annotated[Path | None, typer.Option(metavar="FOLDER", help=CACHE_HELP)] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PNG file: the 12 nearest pictures beside their neighbors.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON file.")] = None,
) -> None:
    """Pictures that lie nearer to the training set than is usual, beside what they may be copies of."""
    import numpy as np
    from PIL import Image

    from darkroom.evaluation.copies import copied_share, nearest, nearest_sheet
    from darkroom.evaluation.features import open_features
    from darkroom.evaluation.picture_set import default_cache, open_pictures, read_features
    from darkroom.nn.device import find_device
    from darkroom.whole_file import whole_file

    if os.path.realpath(folder) == os.path.realpath(training):
        raise InputError(f"both sets are {folder}: a set is no copy of itself")
    find_device(device)
    network, kept = open_features(features, device), cache or default_cache()
    ours, theirs = open_pictures(folder), open_pictures(training)

    def rows(source: Path) -> np.ndarray:
        return np.concatenate(list(read_features(open_pictures(source), network, kept)))

    with ExitStack() as files:
        file = None if output is None else files.enter_context(whole_file(output))
        sheet_file = None if sheet is None else files.enter_context(whole_file(sheet))
        found = nearest(rows(folder), read_features(theirs, network, kept))
        usual = nearest(rows(held_out or training), read_features(theirs, network, kept), itself=held_out is None)
        share = copied_share(found, usual)
        order = np.argsort(found.distance, kind="stable")
        near = [
            (ours.dataset.name(i), theirs.dataset.name(int(found.index[i])), float(found.distance[i]))
            for i in order.tolist()
        ]
        if sheet_file is not None:
            Image.fromarray(nearest_sheet(ours, theirs, found)).save(sheet_file, format="PNG")
        if file is not None:
            report = {"pictures": len(ours), "training": len(theirs), **_seen_by(network)}
            report |= {"numbers": as_json({"copies": share}), "nearest": near}
            file.write((json.dumps(report, indent=1) + "\n").encode())
    print_numbers({"copies": share})
    print(f"{len(ours)} pictures among {len(theirs)}; 0.05 is usual; {network.name} [{network.digest}], {network.law}")
    for name, neighbor, distance in near[:5]:
        print(f"  {name} – {neighbor} (distance {distance:.3g})")


def _seen_by(network: FeatureNetwork) -> dict[str, Any]:
    return {"network": {"name": network.name, "digest": network.digest, "law": network.law}}


def _digest(path: Path | None) -> str | None:
    from darkroom.checkpoints.fingerprint import model_hash

    return None if path is None else model_hash(path)

"""`darkroom evaluate metrics`: what the metrics themselves are worth."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from darkroom.errors import InputError

__all__ = ["metrics"]


def metrics(
    pictures: Annotated[str, typer.Option(help="Sizes of the sets, with commas.")] = "100,500",
    repeats: Annotated[int, typer.Option(help="Sets of each fault and dose.")] = 20,
    pool: Annotated[int, typer.Option(help="Scenes that sets are drawn from; at least twice the largest set.")] = 2000,
    features: Annotated[str, typer.Option(metavar="NETWORK", help="judge, inception=FILE, clip=FOLDER …")] = "judge",
    seed: Annotated[int, typer.Option("-s", "--seed", help="Of the world.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    half: Annotated[bool, typer.Option("--half", help="Look in bfloat16: faster, features 1 % off.")] = False,
    cache: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where features are kept; default: the user's cache.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON file.")] = None,
) -> None:
    """Which metric notices which fault: blur, missing kinds, exchanged colors, fewer varieties, copied pictures."""
    if not all(p.strip().isdecimal() for p in pictures.split(",")):
        raise InputError(f"the sizes of sets are {pictures!r}, expected are numbers with commas, such as 100,500")
    from rich.console import Console
    from rich.table import Table

    from darkroom.evaluation.features import open_features
    from darkroom.evaluation.judging import load_judge
    from darkroom.evaluation.picture_set import default_cache
    from darkroom.evaluation.trust import FAULTS, TrustConfig, table, trust
    from darkroom.nn.device import find_device
    from darkroom.whole_file import whole_file

    find_device(device)
    config = TrustConfig(tuple(int(p) for p in pictures.split(",")), repeats, pool, seed=seed, half=half)
    with ExitStack() as files:
        file = None if output is None else files.enter_context(whole_file(output))
        report = trust(load_judge(), open_features(features, device), config, cache or default_cache())
        if file is not None:
            file.write((json.dumps(report.as_json(), indent=1) + "\n").encode())
    shown = Table("metric", "pictures", *FAULTS, "cries wolf")
    for row in table(report):
        shown.add_row(*row)
    Console(width=140).print(shown)
    print(f"seen through {report.network}; the smallest dose that 8 of 10 sets show; –: none")

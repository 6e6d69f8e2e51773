"""`darkroom serve`: the server, on this machine's loopback unless told otherwise."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.checkpoints.folders import CHECKPOINTS, called
from darkroom.cli.folders import Folders
from darkroom.cli.models import Models, known_models
from darkroom.cli.options import Preferred, with_options
from darkroom.errors import InputError, require
from darkroom.input_file import read_text
from darkroom.preferences import read_preferences
from darkroom.whole_file import made_folder

if TYPE_CHECKING:
    from darkroom.checkpoints.model_folders import ModelFolders
    from darkroom.serve.announcement import Announcement
    from darkroom.serve.residents import Load

__all__ = ["command"]

PANEL, MODELS = "Server", "Models"
SHORTEST = 8  # characters of a token
MAX_TOKEN = 4096  # bytes of its file


@dataclass(frozen=True)
class Address:
    """Where the server listens, and who may ask."""

    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.", rich_help_panel=PANEL)
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option("--port", metavar="INTEGER", help="Port; 0: any.", rich_help_panel=PANEL)] = 7860
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--host-name",
            metavar="NAME",
            help="A name under which it is reached, besides addresses and localhost.",
            rich_help_panel=PANEL,
        ),
    ] = None
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TEXT",
            envvar="DARKROOM_TOKEN",
            help="What clients must know; default: one made at the first start.",
            rich_help_panel=PANEL,
        ),
    ] = None
    browser: Annotated[bool, typer.Option("--open", help="Open the page.", rich_help_panel=PANEL)] = False

    def __post_init__(self) -> None:
        require(0 <= self.port < 65_536, "the port", self.port, "0 to 65535")
        require(
            self.token is None or len(self.token) >= SHORTEST,
            "the token's length",
            len(self.token or ""),
            f"at least {SHORTEST}",
        )

    def secret(self, folder: Path) -> str:
        """The token: as given, else the one kept in `folder`, which only its owner can read."""
        if self.token is not None:
            return self.token
        path = folder / "token"
        if not os.path.lexists(path):
            # Linked into its place whole: another server that shares the folder may begin at the same time.
            with tempfile.NamedTemporaryFile("w", dir=folder) as file:
                file.write(secrets.token_urlsafe(24))
                file.flush()
                with suppress(FileExistsError):
                    os.link(file.name, path)
        token = read_text(path, MAX_TOKEN).strip()
        if not (token.isascii() and token.isprintable() and len(token) >= SHORTEST):
            raise InputError(f"{path} holds no token of at least {SHORTEST} letters; remove it")
        return token


@dataclass(frozen=True)
class Bounds:
    """What is kept, and what a client may ask for."""

    keep_days: Annotated[
        float | None,
        typer.Option(
            "--keep-days",
            metavar="NUMBER",
            help="Remove pictures and jobs after that; default: never.",
            rich_help_panel=PANEL,
        ),
    ] = None
    keep_gib: Annotated[
        float | None,
        typer.Option(
            "--keep-gib", metavar="NUMBER", help="Remove the oldest pictures beyond that size.", rich_help_panel=PANEL
        ),
    ] = None
    pixels: Annotated[
        int, typer.Option("--max-pixels", metavar="INTEGER", help="Of a picture.", rich_help_panel=PANEL)
    ] = 2048 * 2048
    steps: Annotated[
        int, typer.Option("--max-steps", metavar="INTEGER", help="Of a picture.", rich_help_panel=PANEL)
    ] = 200
    queue: Annotated[
        int, typer.Option("--max-queue", metavar="INTEGER", help="Jobs that wait.", rich_help_panel=PANEL)
    ] = 1000
    prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Let prompts stand in the logs.", rich_help_panel=PANEL)
    ] = False

    def __post_init__(self) -> None:
        for flag, value in (
            ("--keep-days", self.keep_days),
            ("--keep-gib", self.keep_gib),
            ("--max-pixels", self.pixels),
            ("--max-steps", self.steps),
            ("--max-queue", self.queue),
        ):
            require(value is None or value > 0, flag, value, "more than 0")


@dataclass(frozen=True)
class Serving:
    """What it draws with, and where it keeps it."""

    models: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            metavar="MODEL",
            help="A checkpoint's file or folder, a hub id, or a name; several times for several; default: picturebook.",
            rich_help_panel=MODELS,
            autocompletion=known_models,
        ),
    ] = None
    device: Annotated[
        str,
        typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 …", rich_help_panel=MODELS),
        Preferred("device"),
    ] = "cpu"
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            metavar="auto|bf16|fp16|fp32",
            help="Precision; auto: what is fast here.",
            rich_help_panel=MODELS,
        ),
    ] = "auto"
    threads: Annotated[
        int | None,
        typer.Option("-t", "--threads", metavar="INTEGER", help="Cores to use; default: all.", rich_help_panel=MODELS),
    ] = None
    resident: Annotated[
        int,
        typer.Option("--resident", metavar="INTEGER", help="Models in memory at once.", rich_help_panel=MODELS),
    ] = 2
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", metavar="FOLDER", help="For jobs and pictures; default: of the user.", rich_help_panel=PANEL
        ),
    ] = None
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            envvar="DARKROOM_STORE",
            help="Keep jobs in PostgreSQL at postgresql://…, with other servers; default: in the folder.",
            rich_help_panel=PANEL,
        ),
    ] = None
    lease: Annotated[
        float,
        typer.Option(
            "--lease",
            metavar="NUMBER",
            help="Seconds after which the others on --store take the jobs of a server that says nothing.",
            rich_help_panel=PANEL,
        ),
    ] = 15.0
    most: Annotated[
        int, typer.Option("--together", metavar="INTEGER", help="Pictures under way at once.", rich_help_panel=PANEL)
    ] = 8

    def __post_init__(self) -> None:
        require(self.most >= 1, "--together", self.most, "at least 1")
        require(self.lease >= 1, "--lease", self.lease, "at least 1")
        require(self.resident >= 1, "--resident", self.resident, "at least 1")

    def named(self) -> list[str]:
        """The models, as they are called on the line or else in config.toml."""
        return self.models or [read_preferences().model]

    def loaders(self, folders: ModelFolders) -> Mapping[str, Load]:
        """What loads each model, by the name that clients use: a path's last part, else as given.

        `InputError` for one that is not there or is none. What lies on the hub is not looked at.
        """
        from darkroom.checkpoints.inspect import require_system

        common = Models(device=self.device, dtype=self.dtype, threads=self.threads)
        found: dict[str, Load] = {}
        for model in self.named():
            name = _name(model)
            if name in found:
                raise InputError(f"two models are called {name!r}; clients could not tell them apart")
            require_system(model, folders.checkpoints)
            found[name] = partial(Models.load, replace(common, name=model).within(folders))
        return found

    def announcement(self, folders: ModelFolders, token: str, address: str) -> Announcement:
        """What the user's other programs are told of this server."""
        from darkroom.serve.announcement import Announcement, named

        return Announcement(
            address=address,
            token=token,
            process=os.getpid(),
            models={named(called(CHECKPOINTS, model, folders.checkpoints)): _name(model) for model in self.named()},
            lora_folders=tuple(named(folder) for folder in folders.loras),
            embedding_folders=tuple(named(folder) for folder in folders.embeddings),
            control_folders=tuple(named(folder) for folder in folders.controlnet),
            device=self.device,
            dtype=self.dtype,
        )

    def home(self) -> Path:
        """The folder, made where it is missing."""
        data = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
        return made_folder(self.folder or data / "darkroom" / "server")


def _name(model: str) -> str:
    """What clients call a model: the last part of a path, without its ending."""
    path = Path(model)
    return path.stem if path.suffix else path.name


def _serve(serving: Serving, folders: Folders, address: Address, bounds: Bounds) -> None:
    """Serve pictures over HTTP: a page, jobs that survive, OpenAI's and AUTOMATIC1111's shapes.

    darkroom serve
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise InputError("the server needs more packages: pip install 'darkroom-diffusion[serve]'") from None

    from darkroom.serve.intake import Limits
    from darkroom.serve.run import run
    from darkroom.serve.service import ServiceConfig

    folder, found = serving.home(), folders.found()
    config = ServiceConfig(
        folder,
        store=serving.store,
        lease=serving.lease,
        most=serving.most,
        models=serving.resident,
        folders=found,
        limits=Limits(pixels=bounds.pixels, steps=bounds.steps, queue=bounds.queue),
        keep_days=bounds.keep_days,
        keep_bytes=None if bounds.keep_gib is None else round(bounds.keep_gib * 2**30),
        log_prompts=bounds.prompts,
    )
    run(
        config,
        serving.loaders(found),
        partial(serving.announcement, found, address.secret(folder)),
        host=address.host,
        port=address.port,
        names=address.names or (),
        browser=address.browser,
    )


command = with_options(_serve, Serving, Folders, Address, Bounds)

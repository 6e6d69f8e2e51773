"""Commands made of dataclasses and rows of the table of settings."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

import darkroom.cli.app
from darkroom.cli.options import Also, Panels, with_options
from darkroom.errors import InputError
from darkroom.requests.settings import SETTINGS
from darkroom.types import Region


@dataclass(frozen=True)
class Things:
    name: Annotated[str, typer.Option("-m", "--model", rich_help_panel="Models"), Also("--ckpt")] = "usual"
    lists: Annotated[list[str] | None, typer.Option("--lora"), Also("--adapter")] = None


def called(*arguments: str) -> tuple[Things, dict[str, Any]]:
    found: list[Any] = []
    app = typer.Typer(rich_markup_mode=None)

    def act(things: Things, said: dict[str, Any]) -> None:
        """Draw."""
        found[:] = [things, said]

    app.command(cls=Panels)(with_options(act, Things, settings=SETTINGS))
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return (found[0], found[1]) if found else (Things(), {"help": result.stdout})


def test_groups_and_settings_are_given_as_values() -> None:
    assert called() == (Things(), {})
    things, said = called("--ckpt", "x", "--lora", "a", "--adapter", "b", "--steps", "3", "--rescale", "0", "--no-apg")
    assert things.name == "x"
    assert list(things.lists or ()) == ["a", "b"]
    assert said == {"steps": 3, "guidance.rescale": 0.0, "guidance.apg": False}
    _, said = called("--region", "0,0,1,1:a", "--sampler-option", "a=1", "--sampler-option", "b=x", "--eta", "0.5")
    assert said["regions"] == (Region("a", (0.0, 0.0, 1.0, 1.0)),)
    assert (said["sampler_options"], said["sampler_options.eta"]) == ({"a": 1, "b": "x"}, 0.5)


def test_a_setting_under_two_names_is_refused() -> None:
    with pytest.raises(InputError, match="--steps is given twice"):
        called("--steps", "3", "--ddim-steps", "4")


def test_help_shows_whole_names_in_panels_and_no_aliases() -> None:
    text = called("--help")[1]["help"]
    for setting in SETTINGS:
        assert all(flag in text for flag in setting.flags)
        assert setting.flags == () or setting.panel in text
    for hidden in ("--ckpt", "--merge-tokens", "--num-inference-steps"):
        assert hidden not in text


def test_no_function_of_the_command_line_has_many_parameters() -> None:
    for module in vars(darkroom.cli).values():
        for function in vars(module).values() if inspect.ismodule(module) else ():
            if inspect.isfunction(function) and not hasattr(function, "__signature__"):
                assert len(inspect.signature(function).parameters) <= 15, function

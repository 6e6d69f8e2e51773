import re

from typer.testing import CliRunner

from darkroom.cli.app import app
from darkroom.systems import FIRST_STAGES, SYSTEMS
from darkroom.systems.build import build
from darkroom.systems.counts import parameters


def test_counting_parts_gives_what_the_whole_has():
    for name in ("picturebook", "ldm_cin256-v2"):
        system = SYSTEMS[name]
        parts = (system.unet, system.autoencoder, *system.embedders)
        assert sum(map(parameters, parts)) == sum(p.numel() for p in build(system, "meta").parameters())


def test_the_table_names_every_system_and_first_stage():
    result = CliRunner().invoke(app, ["systems"])
    assert result.exit_code == 0, result.output
    words = set(re.findall(r"[\w-]+", result.output))
    assert {*SYSTEMS, *FIRST_STAGES} <= words
    assert {"sd-v1-emaonly", "first_stage_kl-f8"} <= words
    assert "859.5 M" in result.output

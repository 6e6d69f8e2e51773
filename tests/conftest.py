"""Doubles that many tests share: a picture-book system small enough to run in milliseconds."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from darkroom.checkpoints.native import save_system
from darkroom.noise_schedule import NoiseSchedule
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.systems.system import System

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# The same examples in every run, however slow the machine is: what is new is looked for by `python -m tests.fuzz`.
settings.register_profile(
    "suite", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")
THREADS = torch.get_num_threads()


def as_in_a_new_process() -> None:
    """Draws without seeds of their own, and the number of threads."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test computes the same whichever tests were run before it in its process."""
    as_in_a_new_process()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
    """What tests share is the same whichever of them asks first, and takes no draws from that one."""
    if fixturedef.scope == "function":
        return (yield)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    as_in_a_new_process()
    try:
        return (yield)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@pytest.fixture(scope="session", autouse=True)
def nothing_of_the_user(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests read no settings, servers, models or caches of whoever runs them, nor do the processes that they start."""
    empty = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "HF_HOME"):
            patch.setenv(name, str(empty / name))
        for name in ("DARKROOM_CONFIG", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "HF_TOKEN"):
            patch.delenv(name, raising=False)
        # It outlives the tests, since compiled kernels lie there.
        patch.setenv("XDG_CACHE_HOME", str(pytestconfig.rootpath / ".pytest_cache" / "user"))
        yield


@pytest.fixture(scope="session")
def tiny_system() -> System:
    """The shipped system's shape at a hundredth of its size."""
    text, *sizes = PICTUREBOOK.embedders
    return replace(
        PICTUREBOOK,
        name="tiny",
        # 64 channels: with one channel a group, norms would wipe the time embedding out.
        unet=replace(PICTUREBOOK.unet, model_channels=64, channel_mult=(1, 1), head_dim=16, context_dim=16),
        autoencoder=replace(PICTUREBOOK.autoencoder, channels=32, channel_mult=(1, 1), decoder_res_blocks=1),
        embedders=(replace(text, width=16, layers=1, heads=1, head_dim=16), *sizes),  # type: ignore[arg-type]
        schedule=NoiseSchedule("scaled_linear", 0.00085, 0.012),
        defaults=replace(PICTUREBOOK.defaults, width=32, height=32, steps=4, schedule="karras", guidance_interval=None),
    )


@pytest.fixture(scope="session")
def tiny_model(tiny_system: System) -> LatentDiffusion:
    """Random values in every parameter, so that nothing is hidden behind a zero."""
    generator = torch.Generator().manual_seed(0)
    model = build(tiny_system)
    for p in model.parameters():
        with torch.no_grad():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.2 if p.dim() == 1 else p[0].numel() ** -0.5))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_folder(tiny_model: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_system(tiny_model, folder, {}, torch.float32)
    return folder


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chrome]:
    """Chromium without a window. Tests of pages fail where it is missing: nothing is skipped in silence."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    found, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if found is None or driver is None:
        raise RuntimeError("tests of pages need chromium and chromedriver: run scripts/debian_packages.sh")
    options = ChromeOptions()
    options.binary_location = found
    # No sandbox: containers run tests as root, and only our own pages are opened.
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options, ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def browser(chromium: Chrome) -> Chrome:
    """With an empty page of the usual size, and nothing logged."""
    chromium.get("about:blank")
    chromium.set_window_size(1400, 900)
    chromium.get_log("browser")
    return chromium

"""What a network predicts. Tensors do not tell (Stable Diffusion 2 has both kinds), so something beside them must."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.diffusion.prediction import Prediction, known_prediction
from darkroom.errors import InputError, printable
from darkroom.input_file import read_bytes
from darkroom.json_file import read_json

if TYPE_CHECKING:
    from darkroom.checkpoints.source import Source

__all__ = ["Told", "tell_prediction"]

MAX_SIDECAR = 1 << 20  # bytes
_VELOCITY_NAME = re.compile(
    r"(^|[-_. ])(v[-_]?pred(iction)?[\d.]*|768[-_]?v|v[-_]?param\w*|2[-_.]1[-_]768|768[-_]ema)([-_. ]|$)"
)
_NOISE_NAME = re.compile(r"(^|[-_. ])(base|512[-_](base|ema|nonema|inpaint\w*)|eps(ilon)?)([-_. ]|$)")


@dataclass(frozen=True)
class Told:
    """`prediction` None: only the schedule was told."""

    prediction: Prediction | None
    by: str
    zero_terminal_snr: bool = False


def tell_prediction(source: Source, given: Prediction | None = None, *, ambiguous: bool = True) -> Told | None:
    """The first of these that says anything: the user, the file's keys, its metadata, a configuration beside it, its
    name. None if all are silent; then the habit of the system decides.

    `ambiguous`: systems of both kinds have these tensors, so that words such as "base" in a name mean something.
    """
    zero = "ztsnr" in source.tensors
    if given is not None:
        return Told(given, "the user's choice", zero)
    if "v_pred" in source.tensors:
        return Told(Prediction.V, "the key v_pred in the file", zero)
    found = _by_metadata(source) or _by_scheduler(source) or _by_sidecar(source.path) or _by_name(source, ambiguous)
    if found is not None and zero:
        return Told(found.prediction, found.by, True)
    return found or (Told(None, "the habit of the system", True) if zero else None)


def _by_metadata(source: Source) -> Told | None:
    said = known_prediction(source.metadata.get("modelspec.prediction_type"))
    if said is not None:
        return Told(said, "modelspec.prediction_type in its metadata")
    if "768-v" in source.metadata.get("modelspec.architecture", ""):
        return Told(Prediction.V, "modelspec.architecture in its metadata")
    if source.metadata.get("ss_v_parameterization") in ("True", "true"):
        return Told(Prediction.V, "ss_v_parameterization in its metadata")
    return None


def _by_scheduler(source: Source) -> Told | None:
    scheduler = source.configs.get("scheduler")
    if scheduler is None:
        return None
    said = scheduler.get("prediction_type")
    prediction = Prediction.EPS if said is None else known_prediction(said)
    if prediction is None:
        raise InputError(
            f"{source.path}/scheduler/scheduler_config.json: prediction_type is {printable(said, 40)}, "
            "accepted are: epsilon, v_prediction, sample"
        )
    return Told(prediction, "scheduler_config.json", scheduler.get("rescale_betas_zero_snr") is True)


def _by_sidecar(path: Path) -> Told | None:
    """A configuration of the reference code, or a JSON table, that lies beside the file under the same name. Such a
    name may mean something else: what cannot be read says nothing."""
    for ending in (".yaml", ".yml"):
        beside = path.with_suffix(ending)
        try:
            text = read_bytes(beside, MAX_SIDECAR).decode("utf-8", "replace")
        except InputError:
            continue
        said = re.search(r"^[ \t]*parameterization:[ \t]*[\"']?(\w+)", text, re.MULTILINE)
        return Told((said and known_prediction(said[1])) or Prediction.EPS, f"{beside.name} beside it")
    try:
        said = known_prediction(read_json(path.with_suffix(".json"), MAX_SIDECAR).get("prediction_type"))
    except InputError:
        return None
    return Told(said, f"{path.stem}.json beside it") if said else None


def _by_name(source: Source, ambiguous: bool) -> Told | None:
    name = source.path.stem.lower()
    if _VELOCITY_NAME.search(name):
        return Told(Prediction.V, "the file's name")
    if ambiguous and _NOISE_NAME.search(name):
        return Told(Prediction.EPS, "the file's name")
    return None

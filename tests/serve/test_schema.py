"""The description of the server against the server: whatever fits or does not, it answers, and never with a fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from serving import loader, serving

from darkroom.serve.intake import Limits
from darkroom.serve.service import Service, ServiceConfig

HEADERS = {"Authorization": "Bearer a-token-for-tests"}


@pytest.fixture(scope="module")
def description(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    limits = Limits(pixels=32 * 32, steps=1, count=1)
    config = ServiceConfig(tmp_path_factory.mktemp("serve") / "server", limits=limits, drain=0.0)
    with serving(Service(config, {"tiny": loader(tiny_folder)})) as address:
        found = schemathesis.openapi.from_url(f"{address}/openapi.json", headers=HEADERS)
        yield found.exclude(path_regex="/events$")  # streams have no end


@pytest.mark.slow
def test_no_request_makes_the_server_fail(description: Any) -> None:
    for found in description.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=1,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answers(case: Any) -> None:
            answer = case.call(headers=HEADERS, timeout=240)
            assert answer.status_code < 500, (case, answer.text)
            if answer.status_code >= 400:
                assert set(answer.json()) == {"error"}
                assert answer.json()["error"]["message"]

        answers()


def test_the_description_names_every_setting(shared_client: httpx.Client) -> None:
    table = shared_client.get("/openapi.json").json()
    body = table["components"]["schemas"]["JobBody"]["properties"]["request"]
    assert {"prompt", "steps", "sampler", "hires"} <= body["properties"].keys()
    assert {"/v1/jobs", "/v1/images/edits", "/sdapi/v1/txt2img", "/metrics"} <= table["paths"].keys()


def test_every_table_that_is_sent_has_an_example(shared_client: httpx.Client) -> None:
    table = shared_client.get("/openapi.json").json()
    bodies = [operation.get("requestBody", {}) for path in table["paths"].values() for operation in path.values()]
    sent = [body["content"]["application/json"]["schema"] for body in bodies if "application/json" in str(body)]
    named = [schema["$ref"].rpartition("/")[2] for schema in sent if "$ref" in schema]
    assert [name for name in named if "examples" not in table["components"]["schemas"][name]] == []
    image = table["components"]["schemas"]["PngBody"]["examples"][0]
    assert shared_client.post("/sdapi/v1/png-info", json=image).json()["info"] == ""
    units = table["components"]["schemas"]["DetectBody"]["examples"][0]
    assert len(shared_client.post("/controlnet/detect", json=units).json()["images"]) == 1

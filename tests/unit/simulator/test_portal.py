"""The simulated instance's portal has the shapes of the real one."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from vastproxy.simulator.portal import PORTAL_PORT, Service, create_portal, image_services

FIXTURES = Path(__file__).parents[2] / "fixtures" / "portal"
SERVICES = (
    Service("Instance Portal", PORTAL_PORT, 1111, 41011, process="instance_portal"),
    Service("SGLang API", 18000, 8000, 41080, "/docs", speaks_openai=True, process="sglang"),
    Service("Ollama API", 21434, 11434, speaks_openai=True, process="ollama", state="FATAL"),
    Service("Jupyter", 18080, 8080, state="vast-managed"),
)


async def ask(app: ASGIApp, path: str) -> tuple[int, str, bytes]:
    """One GET without a server."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await app({**scope, "http_version": "1.1", "root_path": "", "scheme": "http"}, receive, send)
    kinds = dict(sent[0]["headers"])
    return (
        sent[0]["status"],
        kinds[b"content-type"].decode(),
        b"".join(each.get("body", b"") for each in sent),
    )


@pytest.mark.parametrize(
    ("path", "recorded"),
    [("/capabilities/endpoints", "endpoints.json"), ("/capabilities/services", "services.json")],
)
async def test_the_lists(path: str, recorded: str) -> None:
    status, kind, body = await ask(create_portal(lambda: SERVICES, public_ip="203.0.113.7"), path)
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == json.loads((FIXTURES / recorded).read_text())


async def test_without_a_public_address_only_the_inside_is_named() -> None:
    _, _, body = await ask(create_portal(lambda: SERVICES), "/capabilities/endpoints")
    assert [one["base_url"] for one in json.loads(body)] == [None, None]


@pytest.mark.parametrize(
    ("path", "status", "kind", "part"),
    [
        ("/", 200, "text/html; charset=utf-8", b"<title>Vast.ai Instance Portal</title>"),
        ("/health", 200, "application/json", b'{"status":"ok"}'),
        ("/v1/models", 404, "application/json", b'{"detail":"Not Found"}'),
    ],
)
async def test_the_rest(path: str, status: int, kind: str, part: bytes) -> None:
    answer = await ask(create_portal(tuple), path)
    assert answer[:2] == (status, kind)
    assert part in answer[2]


async def test_services_are_asked_for_each_time() -> None:
    listed: list[Service] = []
    app = create_portal(lambda: listed)
    assert json.loads((await ask(app, "/capabilities/endpoints"))[2]) == []
    listed.extend(image_services("vllm", 18000))
    assert len(json.loads((await ask(app, "/capabilities/endpoints"))[2])) == 1


@pytest.mark.parametrize("flavour", ["sglang", "vllm", "llamacpp", "ollama"])
def test_an_image_of_vast_ai_names_its_engine(flavour: str) -> None:
    (engine,) = (one for one in image_services(flavour, 18000) if one.speaks_openai)
    assert (engine.internal_port, engine.state) == (18000, "RUNNING")
    assert engine.external_port != engine.internal_port
    dead: list[Any] = [
        one.state for one in image_services(flavour, 18000, running=False) if one.speaks_openai
    ]
    assert dead == ["FATAL"]


def test_a_raw_image_has_no_portal() -> None:
    assert image_services("tgi", 80) == ()

"""`vastproxy webhooks` against the simulated account, and what that account would send, before a running proxy."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.raw import ask
from tests.helpers.scene import Scene, open_scene
from vastproxy.simulator.webhooks import MAX_WEBHOOKS, Delivery

URL = "https://proxy.example.com"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


async def command(scene: Scene, directory: Path, *words: str, code: int = 0, **env: str) -> ProxyProcess:
    """One run of `vastproxy webhooks …`."""
    run = ProxyProcess(directory, api=scene.api, arguments=("webhooks", *words), env=env)
    assert await run.run() == code, run.output
    return run


async def delivered(proxy: ProxyProcess, delivery: Delivery) -> tuple[int, str]:
    """Sent as vast.ai sends it: the status and what was decided."""
    answer = await ask(
        proxy.port, "POST", "/webhooks/vastai", headers=dict(delivery.headers), body=delivery.body
    )
    told = json.loads(answer.body)
    return answer.status, told.get("verdict") or told["error"]["code"]


async def test_from_the_first_command_to_an_event_that_counts(scene: Scene, tmp_path: Path) -> None:
    """A webhook is made, its secret is written down and signs; a new secret makes the one before worthless."""
    hooks, secret = scene.api.account.webhooks, tmp_path / "secret"
    made = await command(scene, tmp_path, "create", URL, "--secret-file", str(secret))
    [row] = hooks.rows()
    assert row["webhook_url"] == f"{URL}/webhooks/vastai"
    assert "client:outbid" in row["event_types"]
    assert secret.read_text().strip() not in made.output
    assert secret.stat().st_mode & 0o777 == 0o600

    listed = json.loads((await command(scene, tmp_path, "list", "--json")).stdout)
    assert [(one["id"], one["url"]) for one in listed] == [(row["id"], row["webhook_url"])]

    known = f"file:{secret}"
    proxy = await scene.serve(VASTPROXY_WEBHOOKS__SECRET=known)
    said = await command(scene, tmp_path, "test", proxy.url, VASTPROXY_WEBHOOKS__SECRET=known)
    assert "took the test event" in said.output
    await command(scene, tmp_path, "test", "--id", str(row["id"]))
    assert await delivered(proxy, hooks.deliveries[-1]) == (200, "nothing")
    hooks.tell("outbid", "Instance outbid", "Your instance 48001001 was outbid.")
    assert await delivered(proxy, hooks.deliveries[-1]) == (200, "poll"), (
        "it is none of those that are served"
    )

    await command(scene, tmp_path, "rotate", str(row["id"]), "--secret-file", str(secret))
    hooks.tell("low_credit", "Low credit")
    assert await delivered(proxy, hooks.deliveries[-1]) == (401, "invalid_signature")
    await command(scene, tmp_path, "delete", str(row["id"]), "--yes")
    assert hooks.rows() == []
    assert "no webhooks" in (await command(scene, tmp_path, "list")).output


async def test_what_vast_ai_refuses_is_one_line(scene: Scene, tmp_path: Path) -> None:
    """One too many, and one that is not there."""
    for number in range(MAX_WEBHOOKS):
        address = f"https://{number}.example.com"
        scene.api.account.webhooks.create({"webhook_url": address, "event_types": ["client:outbid"]})
    for words in (("create", "https://more.example.com"), ("rotate", "9")):
        run = await command(scene, tmp_path, *words, code=1)
        assert len(run.stderr.splitlines()) == 1, run.stderr
    assert len(scene.api.account.webhooks) == MAX_WEBHOOKS

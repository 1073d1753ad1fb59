"""`vastproxy destroy`: through a proxy, or straight at an account as vast.ai's; never without somebody's word."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.helpers.builders import make_row
from tests.helpers.vastapi import KEY, Fault, VastApi
from tests.unit.cli.conftest import Answers, Peer, Run
from vastproxy.cli import render
from vastproxy.cli.destroy import Doomed, NothingDestroyed, confirm
from vastproxy.cli.orders import NotConfirmed
from vastproxy.vastai import VastUnauthorized

StartPeer = Callable[[Answers], Peer]
BACKENDS = "/vastproxy/v1/backends"
#: Nobody listens there.
NO_PROXY = {"VASTPROXY_SERVER__LISTEN": "127.0.0.1:1"}


@pytest.fixture
def account() -> Iterator[VastApi]:
    """Three instances, one of them stopped."""
    with VastApi() as api:
        stopped = {"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped"}
        api.set_instances([make_row(id=1), make_row(id=2, label="keep"), make_row(id=3, **stopped)])
        yield api


def environ(api: VastApi, **more: str) -> dict[str, str]:
    return {
        "VAST_URL": api.url,
        "VAST_API_KEY": KEY,
        "VASTPROXY_VAST__MIN_INTERVAL_SCALE": "0",
        "VASTPROXY_VAST__RETRIES__ATTEMPTS": "1",
        **NO_PROXY,
        **more,
    }


def ids(api: VastApi) -> list[int]:
    return [contract.id for contract in api.account.contracts]


def row(id: int, **over: Any) -> dict[str, Any]:
    return {"id": id, "gpu_name": "H100 SXM", "num_gpus": 8, "hourly_cost": 12.5, "label": "prod", **over}


def proxy_of(*served: int, **answers: tuple[int, object]) -> Answers:
    destroyed: Answers = {
        f"{BACKENDS}/{id}/destroy": answers.get(f"at_{id}", (200, {"id": id, "destroyed": True}))
        for id in served
    }
    return {BACKENDS: (200, {"backends": [row(id) for id in served]}), **destroyed}


# ── straight at the account ────────────────────────────────────────────────────────────────────


def test_one_is_destroyed(run: Run, account: VastApi) -> None:
    result = run("destroy", "1", "--yes", **environ(account))
    assert (result.exit_code, result.output) == (0, "instance 1 is destroyed\n")
    assert ids(account) == [2, 3]


def test_all_are_those_that_the_settings_let_in_stopped_ones_too(run: Run, account: VastApi) -> None:
    kept = {"VASTPROXY_FLEET__EXCLUDE__LABELS": '["keep"]'}
    result = run("destroy", "--all", "-y", "--json", **environ(account, **kept))
    assert json.loads(result.output) == [{"id": 1, "destroyed": True}, {"id": 3, "destroyed": True}]
    assert ids(account) == [2]


def test_one_that_is_named_may_be_such_that_the_settings_keep_out(run: Run, account: VastApi) -> None:
    kept = {"VASTPROXY_FLEET__EXCLUDE__LABELS": '["keep"]'}
    assert run("destroy", "2", "--yes", **environ(account, **kept)).exit_code == 0
    assert ids(account) == [1, 3]


def test_an_id_that_is_not_there_changes_nothing_for_the_others(run: Run, account: VastApi) -> None:
    result = run("destroy", "1", "99", "--yes", **environ(account))
    assert isinstance(result.exception, NothingDestroyed)
    assert str(result.exception) == "there is no instance 99 on the account; nothing was changed"
    assert ids(account) == [1, 2, 3]


def test_an_account_without_instances(run: Run, account: VastApi) -> None:
    account.set_instances([])
    result = run("destroy", "--all", "--yes", **environ(account))
    assert isinstance(result.exception, NothingDestroyed)
    assert str(result.exception) == "there is no instance to destroy"


def test_one_that_cannot_be_destroyed_does_not_save_the_others(run: Run, account: VastApi) -> None:
    account.faults.next(Fault.SERVER_ERROR_JSON, method="DELETE")
    result = run("destroy", "1", "2", "--yes", **environ(account))
    assert "instance 2 is destroyed" in result.output
    assert isinstance(result.exception, NothingDestroyed)
    assert str(result.exception).startswith("instance 1: vast.ai")
    assert ids(account) == [1, 3]


def test_a_key_that_is_refused_ends_it(run: Run, account: VastApi) -> None:
    result = run("destroy", "1", "--yes", **environ(account, VAST_API_KEY="wrong"))
    assert isinstance(result.exception, VastUnauthorized)
    assert result.exception.exit_code == 3
    assert ids(account) == [1, 2, 3]


# ── whose word it is ───────────────────────────────────────────────────────────────────────────


def test_nobody_is_there_to_confirm(run: Run, account: VastApi) -> None:
    result = run("destroy", "1", **environ(account))
    assert isinstance(result.exception, NotConfirmed)
    assert result.exception.exit_code == 2
    assert ids(account) == [1, 2, 3]
    assert account.requests == [], "nothing was even asked"


@pytest.mark.parametrize("arguments", [(), ("--all", "1"), ("1", "--direct", "--url", "http://127.0.0.1:1")])
def test_what_makes_no_sense_is_refused(run: Run, account: VastApi, arguments: tuple[str, ...]) -> None:
    assert run("destroy", *arguments, "--yes", **environ(account)).exit_code == 2
    assert ids(account) == [1, 2, 3]


DOOMED = [Doomed(1, "1x RTX 4090", 0.36, "llm"), Doomed(2, "8x H100 SXM", None, "")]


@pytest.mark.parametrize(
    ("doomed", "typed", "goes"),
    [
        (DOOMED[:1], "1", True),
        (DOOMED[:1], " 1 ", True),
        (DOOMED[:1], "yes", False),
        (DOOMED[:1], "destroy 1 instances", False),
        (DOOMED[:1], "", False),
        (DOOMED, "destroy 2 instances", True),
        (DOOMED, "destroy  2  instances", True),
        (DOOMED, "destroy 1 instances", False),
        (DOOMED, "y", False),
        (DOOMED, "1", False),
    ],
)
def test_the_words_have_to_be_typed(doomed: list[Doomed], typed: str, goes: bool) -> None:
    app = typer.Typer()

    @app.command()
    def ask() -> None:
        confirm(render.stderr(), doomed, "on the account")

    result = CliRunner().invoke(app, [], input=f"{typed}\n")
    assert (result.exit_code == 0) is goes
    if not goes:
        assert isinstance(result.exception, NothingDestroyed)
    assert "cannot be undone" in result.output
    assert "RTX 4090" in result.output


def test_silence_is_no_consent() -> None:
    app = typer.Typer()

    @app.command()
    def ask() -> None:
        confirm(render.stderr(), DOOMED, "on the account")

    assert isinstance(CliRunner().invoke(app, [], input="").exception, NothingDestroyed)


# ── through a proxy ────────────────────────────────────────────────────────────────────────────


def test_a_proxy_that_runs_does_it(run: Run, peer: StartPeer, account: VastApi) -> None:
    there = peer(proxy_of(1, 2))
    listen = there.url.removeprefix("http://")
    result = run("destroy", "1", "--yes", **environ(account, VASTPROXY_SERVER__LISTEN=listen))
    assert (result.exit_code, result.output) == (0, "instance 1 is destroyed\n")
    assert [(path, json.loads(body)) for path, _, body in there.orders] == [
        (f"{BACKENDS}/1/destroy", {"confirm": "1"})
    ]
    assert ids(account) == [1, 2, 3], "it was not asked directly"


def test_what_the_proxy_does_not_serve_is_destroyed_directly(
    run: Run, peer: StartPeer, account: VastApi
) -> None:
    there = peer(proxy_of(1))
    listen = there.url.removeprefix("http://")
    result = run("destroy", "1", "3", "--yes", **environ(account, VASTPROXY_SERVER__LISTEN=listen))
    assert result.exit_code == 0, result.exception
    assert len(there.orders) == 1
    assert ids(account) == [1, 2]


def test_all_of_a_proxy_are_those_that_it_serves(run: Run, peer: StartPeer) -> None:
    there = peer(proxy_of(7, 8))
    result = run("destroy", "--all", "--yes", "--url", there.url)
    assert result.output == "instance 7 is destroyed\ninstance 8 is destroyed\n"


def test_a_proxy_that_is_named_is_the_only_one_asked(run: Run, peer: StartPeer, account: VastApi) -> None:
    there = peer(proxy_of(7))
    result = run("destroy", "1", "--yes", "--url", there.url, **environ(account))
    assert str(result.exception) == (f"there is no instance 1 served by {there.url}; nothing was changed")
    assert ids(account) == [1, 2, 3]


def test_a_proxy_that_refuses_is_heard_unless_it_is_gone_around(
    run: Run, peer: StartPeer, account: VastApi
) -> None:
    error = {"message": "This proxy destroys no instances.", "code": "actions_disabled"}
    there = peer(proxy_of(1, at_1=(403, {"error": error})))
    named = environ(account, VASTPROXY_SERVER__LISTEN=there.url.removeprefix("http://"))
    result = run("destroy", "1", "--yes", **named)
    assert isinstance(result.exception, NothingDestroyed)
    assert str(result.exception) == f"instance 1: {there.url}: this proxy destroys no instances"
    assert ids(account) == [1, 2, 3]
    assert run("destroy", "1", "--yes", "--direct", **named).exit_code == 0
    assert ids(account) == [2, 3]


def test_a_proxy_that_wants_another_key_is_not_gone_around(
    run: Run, peer: StartPeer, account: VastApi
) -> None:
    there = peer({BACKENDS: (401, {"error": {"message": "no", "code": "invalid_api_key"}})})
    result = run(
        "destroy",
        "1",
        "--yes",
        **environ(account, VASTPROXY_SERVER__LISTEN=there.url.removeprefix("http://")),
    )
    assert isinstance(result.exception, NothingDestroyed)
    assert "admin rights" in str(result.exception)
    assert "--direct" in str(result.exception)
    assert ids(account) == [1, 2, 3]


@pytest.mark.parametrize("chosen", ["1", "--all"])
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, "<html>hello</html>"), "is not vastproxy (HTTP 200"),
        ((502, "no backend"), "is not vastproxy (HTTP 502"),
        ((500, {"error": {"message": "It is ill."}}), "it is ill"),
    ],
)
def test_whoever_has_the_port_of_the_proxy_is_not_gone_around(
    run: Run, peer: StartPeer, account: VastApi, answer: tuple[int, object], says: str, chosen: str
) -> None:
    """It may be a reverse proxy before it, and --all would be far more without it than with it."""
    named = environ(account, VASTPROXY_SERVER__LISTEN=peer({BACKENDS: answer}).url.removeprefix("http://"))
    result = run("destroy", chosen, "--yes", **named)
    assert isinstance(result.exception, NothingDestroyed)
    assert says in str(result.exception)
    assert str(result.exception).endswith("; nothing was changed; --direct asks vast.ai without it")
    assert ids(account) == [1, 2, 3]
    assert account.requests == [], "it was not even asked"
    assert run("destroy", "1", "--yes", "--direct", **named).exit_code == 0
    assert ids(account) == [2, 3]


def test_a_proxy_whose_certificate_is_not_trusted_is_not_gone_around(
    run: Run, peer: StartPeer, account: VastApi
) -> None:
    listen = peer(proxy_of(1)).url.removeprefix("http://")
    tls = {"VASTPROXY_SERVER__LISTEN": listen, "VASTPROXY_SERVER__TLS_CERT": "cert.pem"}
    result = run("destroy", "--all", "--yes", **environ(account, **tls))
    assert isinstance(result.exception, NothingDestroyed)
    assert "no trusted TLS connection" in str(result.exception)
    assert ids(account) == [1, 2, 3]


def test_a_proxy_that_hangs_up_is_not_gone_around(run: Run, account: VastApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hanging_up = threading.Thread(target=lambda: listener.accept()[0].close())
        hanging_up.start()
        listen = f"127.0.0.1:{listener.getsockname()[1]}"
        result = run("destroy", "--all", "--yes", **environ(account, VASTPROXY_SERVER__LISTEN=listen))
        hanging_up.join()
    assert isinstance(result.exception, NothingDestroyed)
    assert "--direct" in str(result.exception)
    assert ids(account) == [1, 2, 3]


def test_where_the_proxy_may_have_any_port_the_account_is_asked(run: Run, account: VastApi) -> None:
    anywhere = environ(account, VASTPROXY_SERVER__LISTEN="127.0.0.1:0")
    assert run("destroy", "1", "--yes", **anywhere).exit_code == 0
    assert ids(account) == [2, 3]

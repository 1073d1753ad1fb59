"""`vastproxy trust`, on a file of pinned host keys."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path as FilePath

import asyncssh
import pytest
import typer
from typer.testing import CliRunner, Result

from tests.unit.cli.conftest import Answers, Peer
from vastproxy.cli.trust import NothingTrusted, accept, refused_keys, trust
from vastproxy.errors import VastproxyError
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.pins import Verdict
from vastproxy.services.tunnels.publickey import parse_blob, shown

Trust = Callable[..., Result]
StartPeer = Callable[[Answers], Peer]


def make() -> str:
    return parse_blob(asyncssh.generate_private_key("ssh-ed25519").public_data).line


A, B, C = make(), make(), make()


@pytest.fixture
def run_trust(workplace: FilePath) -> Trust:
    """Run the command line of this one command."""
    app = typer.Typer()
    app.command()(trust)

    def run(*arguments: str, typed: str = "", **environ: str) -> Result:
        return CliRunner().invoke(app, arguments, input=typed, env=environ)

    return run


@pytest.fixture
def file(workplace: FilePath) -> FilePath:
    return workplace / ".local" / "state" / "vastproxy" / "host_keys.json"


def changed(file: FilePath, *paths: Path, key: str = B) -> None:
    """Instance 7 has shown A and now shows another key on these paths."""

    async def show() -> None:
        pins = HostKeyPins(file, clock=lambda: 1_767_225_600)
        for path in paths:
            await pins.trust("7@1700000000", path, A)
            await pins.refuse("7@1700000000", path, key, address="192.0.2.7:41022")

    asyncio.run(show())


def verdict(file: FilePath, path: Path, key: str = B) -> Verdict:
    async def check() -> Verdict:
        pins = HostKeyPins(file)
        await pins.refresh()
        return pins.check("7@1700000000", path, key)

    return asyncio.run(check())


def test_both_keys_are_shown_and_the_new_one_is_trusted_if_the_person_says_yes(
    run_trust: Trust, file: FilePath
) -> None:
    changed(file, Path.DIRECT)
    result = run_trust("7", typed="y\n")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[:3] == [
        "instance 7, direct path (192.0.2.7:41022)",
        f"  pinned   {shown(A)}  since 2026-01-01 00:00 UTC",
        f"  refused  {shown(B)}  last seen 2026-01-01 00:00 UTC",
    ]
    assert lines[-1] == "trusted; `vastproxy serve` connects to instance 7 at its next attempt"
    assert verdict(file, Path.DIRECT) is Verdict.SAME


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_changed(run_trust: Trust, file: FilePath, typed: str) -> None:
    changed(file, Path.DIRECT)
    before = file.read_bytes()
    assert run_trust("7", typed=typed).exit_code == 1
    assert file.read_bytes() == before


def test_both_paths_at_once_or_one_alone(run_trust: Trust, file: FilePath) -> None:
    changed(file, Path.DIRECT, Path.RELAY)
    assert run_trust("7", "--path", "relay", "--yes").exit_code == 0
    assert (verdict(file, Path.RELAY), verdict(file, Path.DIRECT)) == (Verdict.SAME, Verdict.CHANGED)
    changed(file, Path.RELAY, key=C)
    assert run_trust("7", "-y").exit_code == 0
    assert (verdict(file, Path.RELAY, C), verdict(file, Path.DIRECT)) == (Verdict.SAME, Verdict.SAME)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("8",), "no changed host key of instance 8 was seen, so there is nothing to trust"),
        (("7", "--path", "relay"), "no changed host key of instance 7 was seen on its relay path"),
    ],
)
def test_nothing_to_trust_is_an_error_that_names_the_file(
    run_trust: Trust, file: FilePath, arguments: tuple[str, ...], message: str
) -> None:
    changed(file, Path.DIRECT)
    result = run_trust(*arguments)
    assert isinstance(result.exception, NothingTrusted)
    assert str(result.exception).startswith(message)
    assert str(file) in str(result.exception)
    assert result.exception.exit_code == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "does not hold pinned host keys"), (None, "cannot be used: Is a directory")],
)
def test_a_file_that_cannot_be_used_is_an_error_and_stays_as_it_is(
    run_trust: Trust, file: FilePath, content: bytes | None, message: str
) -> None:
    """Looking changes nothing; a proxy that runs has better reasons to decide about it."""
    file.parent.mkdir(parents=True)
    file.mkdir() if content is None else file.write_bytes(content)
    result = run_trust("7", "--yes")
    assert isinstance(result.exception, NothingTrusted)
    assert message in str(result.exception)
    assert os.listdir(file.parent) == [file.name]


def test_a_key_that_changed_again_meanwhile_is_not_trusted(workplace: FilePath, file: FilePath) -> None:
    changed(file, Path.DIRECT)
    changes = asyncio.run(refused_keys(file, 7, None))
    changed(file, Path.DIRECT, key=C)
    with pytest.raises(
        NothingTrusted, match="has shown yet another key meanwhile; look again with: vastproxy trust 7"
    ):
        asyncio.run(accept(file, changes, 7))
    assert verdict(file, Path.DIRECT, A) is Verdict.SAME


@pytest.mark.parametrize("arguments", [(), ("seven",), ("0",), ("7", "--path", "tunnel")])
def test_wrong_usage(run_trust: Trust, arguments: tuple[str, ...]) -> None:
    assert run_trust(*arguments).exit_code == 2


def test_without_a_home_the_place_must_be_named(run_trust: Trust) -> None:
    result = run_trust("7", HOME="")
    assert "set tunnels.state_dir" in str(result.exception)
    assert getattr(result.exception, "exit_code", None) == 2


def test_in_strict_mode_the_file_is_the_place(run_trust: Trust, file: FilePath) -> None:
    changed(file, Path.DIRECT)
    result = run_trust(
        "7", "--yes", VASTPROXY_TUNNELS__HOST_KEYS="strict", VASTPROXY_TUNNELS__KNOWN_HOSTS="/etc/known"
    )
    assert "put the instance's key into /etc/known" in str(result.exception)
    assert getattr(result.exception, "exit_code", None) == 2
    assert verdict(file, Path.DIRECT) is Verdict.CHANGED


# ── through a running proxy ────────────────────────────────────────────────────────────────────

PAGE = "/vastproxy/v1/backends/7/trust"
CHANGE = {
    "path": "direct",
    "address": "192.0.2.7:41022",
    "pinned": {"key": A, "shown": shown(A), "since_unix": 1_767_225_600},
    "refused": {"key": B, "shown": shown(B), "since_unix": 1_767_225_600, "seen_unix": 1_767_225_600},
}
RELAYED = {**CHANGE, "path": "relay", "refused": {"key": C, "shown": shown(C), "seen_unix": 1_767_225_600}}


def trusted(peer: Peer) -> list[object]:
    """What was ordered."""
    return [json.loads(body) for path, _, body in peer.orders if path == PAGE]


def test_a_proxy_is_told_which_keys_were_looked_at(run_trust: Trust, peer: StartPeer) -> None:
    there = peer({PAGE: (200, {"id": 7, "changes": [CHANGE, RELAYED], "forgotten": 2})})
    result = run_trust("7", there.url, typed="y\n")
    assert result.exit_code == 0, result.exception
    assert result.output.splitlines()[:3] == [
        "instance 7, direct path (192.0.2.7:41022)",
        f"  pinned   {shown(A)}  since 2026-01-01 00:00 UTC",
        f"  refused  {shown(B)}  last seen 2026-01-01 00:00 UTC",
    ]
    assert result.output.splitlines()[-1] == f"trusted; {there.url} connects to instance 7 now"
    assert trusted(there) == [{"keys": [B, C]}]


def test_one_path_alone(run_trust: Trust, peer: StartPeer) -> None:
    there = peer({PAGE: (200, {"changes": [CHANGE, RELAYED]})})
    result = run_trust("7", there.url, "--path", "relay", "--yes", "--json")
    assert json.loads(result.stdout) == {
        "id": 7,
        "proxy": there.url,
        "trusted": [{"path": "relay", "address": "192.0.2.7:41022", "key": C}],
    }
    assert trusted(there) == [{"keys": [C], "path": "relay"}]


def test_a_proxy_is_told_nothing_without_a_yes(run_trust: Trust, peer: StartPeer) -> None:
    there = peer({PAGE: (200, {"changes": [CHANGE]})})
    result = run_trust("7", there.url, typed="n\n")
    assert isinstance(result.exception, NothingTrusted)
    assert trusted(there) == []


def test_the_proxy_that_the_settings_know_comes_before_the_file(
    run_trust: Trust, peer: StartPeer, file: FilePath
) -> None:
    changed(file, Path.DIRECT)
    there = peer({PAGE: (200, {"changes": [CHANGE]})})
    result = run_trust("7", "-y", VASTPROXY_SERVER__LISTEN=there.url.removeprefix("http://"))
    assert result.exit_code == 0
    assert trusted(there) == [{"keys": [B]}]
    assert verdict(file, Path.DIRECT) is Verdict.CHANGED, "the file is the proxy's"


@pytest.mark.parametrize(
    "answer",
    [
        (404, {"error": {"message": "No instance 7 is served here.", "code": "not_found"}}),
        (401, {"error": {"message": "no", "code": "invalid_api_key"}}),
        (200, {"id": 7, "changes": []}),
        (200, "<html>somebody else</html>"),
    ],
)
def test_the_file_where_the_proxy_knows_of_no_change(
    run_trust: Trust, peer: StartPeer, file: FilePath, answer: tuple[int, object]
) -> None:
    changed(file, Path.DIRECT)
    there = peer({PAGE: answer})
    result = run_trust("7", "-y", VASTPROXY_SERVER__LISTEN=there.url.removeprefix("http://"))
    assert result.exit_code == 0, result.exception
    assert verdict(file, Path.DIRECT) is Verdict.SAME
    assert trusted(there) == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, {"changes": []}), "no changed host key of instance 7 was seen"),
        ((404, {"error": {"message": "No instance 7 is served here."}}), "no instance 7 is served here"),
        ((401, {"error": {}}), "admin rights"),
    ],
)
def test_a_proxy_that_is_named_is_heard(
    run_trust: Trust, peer: StartPeer, answer: tuple[int, object], message: str
) -> None:
    result = run_trust("7", peer({PAGE: answer}).url, "-y")
    assert isinstance(result.exception, VastproxyError)
    assert message in str(result.exception)

"""`vastproxy keys`: a key is shown once, listed without it, and revoked by whatever is known of it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.certificates import make_certificate
from tests.unit.cli.conftest import Run
from vastproxy.cli.keys import NotRevoked, keys_app, seconds_of
from vastproxy.services.access.apikey import is_whole
from vastproxy.services.access.records import KeyBookError
from vastproxy.services.access.usefile import note_use, use_path
from vastproxy.settings import SettingsError

Typing = Callable[..., Result]


@pytest.fixture
def file(workplace: Path) -> Path:
    return workplace / ".local" / "state" / "vastproxy" / "keys.json"


def created(run: Run, *arguments: str) -> str:
    """The key that was printed."""
    result = run("keys", "create", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.rstrip("\n")


def listed(run: Run) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(run("keys", "list", "--json").output)["keys"]
    return rows


def test_a_key_is_all_that_goes_to_standard_output(run: Run, file: Path) -> None:
    result = run("keys", "create", "web")
    key = result.stdout.rstrip("\n")
    assert is_whole(key)
    lines = result.stderr.splitlines()
    assert lines[0] == f"web ({key[:9]}…): inference. It cannot be shown again."
    assert "from now on a proxy with these settings asks for a key" in lines[1]
    assert "from now on" not in run("keys", "create", "more").stderr
    assert key not in file.read_text()


def test_everything_that_a_key_may_be_told(run: Run, file: Path) -> None:
    result = run(
        *("keys", "create", "all", "--admin", "--inference", "--rpm", "60", "--concurrent", "4"),
        *("--tpm", "90000", "--model", "llama-*", "--model", "qwen", "--priority", "batch"),
        *("--expires", "30d", "--json"),
    )
    made = json.loads(result.stdout)
    assert is_whole(made.pop("key"))
    assert listed(run) == [{**made, "last_used_at": None}]
    assert made["rights"] == ["admin", "inference"]
    assert made["limits"] == {
        "requests_per_min": 60,
        "concurrent": 4,
        "tokens_per_min": 90_000,
        "models": ["llama-*", "qwen"],
        "priority": "batch",
    }
    assert made["expired"] is False
    assert "sha256" not in made


@pytest.mark.parametrize(
    ("arguments", "rights"),
    [((), ["inference"]), (("--admin",), ["admin"]), (("--admin", "--inference"), ["admin", "inference"])],
)
def test_rights_are_apart(run: Run, arguments: tuple[str, ...], rights: list[str]) -> None:
    created(run, "web", *arguments)
    assert listed(run)[0]["rights"] == rights


def test_the_list_is_for_people_too(run: Run, workplace: Path) -> None:
    assert "no keys in " in run("keys", "list").output
    key = created(run, "web", "--rpm", "60", "--concurrent", "2", "--tpm", "5", "--model", "a*")
    created(run, "nightly", "--priority", "batch", "--expires", "1h")
    output = run("keys", "list", COLUMNS="200").output
    for text in (
        "web",
        key[:9],
        "60 requests/min",
        "2 at a time",
        "5 tokens/min",
        "model a*",
        "batch",
        "never",
    ):
        assert text in output
    assert key not in output


def test_when_a_key_was_last_used_is_told_where_it_is_known(run: Run, file: Path) -> None:
    key = created(run, "web")
    note_use(use_path(file), {key[:9]: 1e9}, {key[:9]})
    assert listed(run)[0]["last_used_at"] == "2001-09-09T01:46:40Z"
    assert "2001-09-09T01:46:40Z" in run("keys", "list", COLUMNS="200").output


def test_an_expired_key_says_so(run: Run, file: Path) -> None:
    created(run, "web", "--expires", "1h")
    document = json.loads(file.read_text())
    document["keys"][0]["expires_at"] = "2001-01-01T00:00:00Z"
    file.write_text(json.dumps(document))
    assert "2001-01-01T00:00:00Z (expired)" in run("keys", "list", COLUMNS="200").output
    assert listed(run)[0]["expired"] is True


@pytest.mark.parametrize("by", ["name", "prefix", "key"])
def test_revoking_by_whatever_is_known(run: Run, by: str) -> None:
    created(run, "other")
    key = created(run, "web")
    wanted = {"name": "web", "prefix": key[:9], "key": key}[by]
    result = run("keys", "revoke", wanted, "--yes")
    assert result.output == f"revoked web ({key[:9]}…)\n"
    assert [row["name"] for row in listed(run)] == ["other"]


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_revoked(run: Run, file: Path, typed: str) -> None:
    created(run, "web")
    before = file.read_bytes()
    result = CliRunner().invoke(keys_app, ["revoke", "web"], input=typed)
    assert result.exit_code == 1
    assert file.read_bytes() == before
    if typed == "n\n":
        assert isinstance(result.exception, NotRevoked)


def test_a_yes_revokes(run: Run) -> None:
    created(run, "web")
    result = CliRunner().invoke(keys_app, ["revoke", "web"], input="y\n")
    assert "it was the last one: a key is asked for all the same" in result.output
    assert listed(run) == []


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (("create", "a b"), KeyBookError, "the name of a key has"),
        (("create", "env-1"), KeyBookError, "from the settings"),
        (("create", "web"), KeyBookError, "there is a key called web already"),
        (("create", "x", "--expires", "soon"), SettingsError, "--expires: expected 90min"),
        (("create", "x", "--expires", "999999w"), SettingsError, "--expires: expected 90min"),
        (("create", "x", "--model", ""), SettingsError, "--model: expected a pattern"),
        (("create", "x", "--model", "m" * 300), SettingsError, "--model: expected a pattern"),
        (("revoke", "nobody", "--yes"), KeyBookError, "no key called 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, arguments: tuple[str, ...], kind: type[Exception], says: str
) -> None:
    created(run, "web")
    error = run("keys", *arguments).exception
    assert isinstance(error, kind)
    assert says in str(error)
    assert "\n" not in str(error)
    assert len(listed(run)) == 1


@pytest.mark.parametrize(
    "arguments",
    [("--rpm", "0"), ("--rpm", str(10**13)), ("--concurrent", "x"), ("--tpm", "-1"), ("--priority", "high")],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("keys", "create", "web", *arguments).exit_code == 2
    assert listed(run) == []


@pytest.mark.parametrize("command", [("create", "x"), ("list",), ("revoke", "x", "--yes")])
def test_a_file_that_cannot_be_used_is_left_alone(run: Run, file: Path, command: tuple[str, ...]) -> None:
    file.parent.mkdir(parents=True)
    file.write_text("{")
    error = run("keys", *command).exception
    assert isinstance(error, SettingsError)
    assert f"the keys in {file} cannot be used" in str(error)
    assert file.read_text() == "{"


def test_the_file_may_be_somewhere_else(run: Run, workplace: Path) -> None:
    environ = {"VASTPROXY_SERVER__KEYS_FILE": "~/here/my-keys"}
    assert run("keys", "create", "web", **environ).exit_code == 0
    assert sorted(os.listdir(workplace / "here")) == ["my-keys", "my-keys.lock"]


def test_without_a_home_the_place_must_be_named(run: Run) -> None:
    assert "set server.keys_file" in str(run("keys", "list", HOME="").exception)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90min", 5_400), ("12h", 43_200), ("30d", 2_592_000), (" 4W ", 2_419_200)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.usefixtures("ssh_key")
class TestConfigCheck:
    def test_keys_of_the_file_count(self, run: Run) -> None:
        environ = {"VAST_API_KEY": "x", "LISTEN_ADDR": "0.0.0.0:80"}
        error = run("config", "check", **environ).exception
        assert "vastproxy keys create" in str(error)
        created(run, "web")
        output = run("config", "check", **environ).output
        assert "ok  listens on: 0.0.0.0:80, 1 inbound key\n" in output
        assert "ok  TLS: none; listens with HTTP" in output
        run("keys", "revoke", "web", "--yes")
        assert "no key is good, so nobody may ask" in run("config", "check", **environ).output

    def test_so_does_the_certificate(self, run: Run, workplace: Path) -> None:
        make_certificate("gpu.example").write(workplace / "cert.pem", workplace / "key.pem")
        environ = {"VAST_API_KEY": "x", "VASTPROXY_SERVER__TLS_CERT": "cert.pem"}
        assert "name its file with server.tls_key" in str(run("config", "check", **environ).exception)
        environ["VASTPROXY_SERVER__TLS_KEY"] = "~/key.pem"
        output = run("config", "check", **environ).output
        assert "ok  TLS: certificate for gpu.example, 127.0.0.1, valid until 20" in output

"""`vastproxy config`."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from vastproxy.settings import SettingsError
from vastproxy.settings.fields import leaves
from vastproxy.settings.schema import settings_schema

SECRET = "s3cr3t"


def test_show_has_one_line_for_each_setting(run: Run) -> None:
    lines = run("config", "show", LISTEN_ADDR=":99").output.splitlines()
    assert lines[0] == "config file: none; built-in defaults are used"
    assert [line.split()[0] for line in lines[1:]] == list(leaves())
    [listen] = [line for line in lines if line.startswith("server.listen ")]
    assert listen.split() == ["server.listen", ":99"]


def test_show_says_where_values_come_from(run: Run, workplace: Path) -> None:
    (workplace / "c.json").write_text('{"server": {"insecure": true}}')
    (workplace / ".env").write_text("VASTPROXY_LABEL=x\n")
    output = run("config", "show", "--sources", "--config", "c.json", LISTEN_ADDR=":99").output
    found = {line.split()[0]: " ".join(line.split()[1:]) for line in output.splitlines()}
    assert found["server.listen"] == ":99 environment variable LISTEN_ADDR"
    assert found["fleet.label"] == "x VASTPROXY_LABEL in .env"
    assert found["server.insecure"] == "true c.json"
    assert found["vast.url"] == "https://console.vast.ai built-in default"


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--sources",), ("--json", "--sources")])
def test_show_tells_of_secrets_only_whether_they_are_set(run: Run, arguments: tuple[str, ...]) -> None:
    environ = {
        "VASTPROXY_API_KEYS": f"{SECRET},{SECRET}2",
        "VASTPROXY_VAST__API_KEY": SECRET,
        "VAST_API_KEY": SECRET,
    }
    result = run("config", "show", *arguments, **environ)
    assert result.exit_code == 0
    assert SECRET not in result.output
    assert "2 set" in result.output
    assert "not set" in result.output, "the engines' key"


def test_show_json(run: Run, workplace: Path) -> None:
    (workplace / "c.json").write_text('{"fleet": {"include": {"ids": [1]}}}')
    plain = json.loads(run("config", "show", "--json", "--config", "c.json").output)
    assert plain["fleet"]["include"]["ids"] == [1]
    assert plain["vast"]["api_key"] == "not set"
    described = json.loads(run("config", "show", "--json", "--sources", "--config", "c.json").output)
    assert described["settings"] == plain
    assert described["sources"]["fleet.include.ids"] == "c.json"
    assert described["config_file"].endswith("c.json")


def test_a_value_cannot_command_the_terminal(run: Run) -> None:
    assert "\x1b" not in run("config", "show", VASTPROXY_LABEL="a\x1b[31mb").output


def test_schema(run: Run) -> None:
    assert json.loads(run("config", "schema").output) == settings_schema()


@pytest.mark.usefixtures("ssh_key")
class TestCheck:
    def test_says_what_is_fine_without_the_secrets(self, run: Run, workplace: Path) -> None:
        (workplace / "c.json").write_text('{"server": {"api_keys": ["env:INBOUND"], "listen": "0.0.0.0:80"}}')
        result = run("config", "check", "c.json", VAST_API_KEY=SECRET, INBOUND=SECRET)
        assert result.exit_code == 0
        assert SECRET not in result.output
        lines = result.output.splitlines()
        assert all(line.startswith("ok  ") for line in lines)
        assert "ok  environment: production (built-in default)" in lines
        assert "ok  vast.ai: https://console.vast.ai, key found in VAST_API_KEY" in lines
        assert any(line.startswith("ok  SSH key: ~/.ssh/id_ed25519 SHA256:") for line in lines)
        assert "ok  host keys: pinned at first sight" in lines
        assert "ok  listens on: 0.0.0.0:80, 1 inbound key" in lines
        assert any(line.startswith("ok  settings: 2 given, ") for line in lines)

    def test_without_a_file_and_without_keys_on_loopback(self, run: Run, workplace: Path) -> None:
        (workplace / ".env").write_text(f"VAST_API_KEY={SECRET}\n")
        result = run("config", "check")
        assert result.exit_code == 0
        assert "config file: none; built-in defaults are used" in result.output
        assert "127.0.0.1:8080, no inbound keys: whoever reaches that address may ask" in result.output

    @pytest.mark.parametrize(
        ("environ", "says"),
        [
            ({}, "no vast.ai API key"),
            ({"VAST_API_KEY": SECRET, "LISTEN_ADDR": "0.0.0.0:80"}, "there are no inbound keys"),
            ({"VAST_API_KEY": SECRET, "VASTPROXY_API_KEYS": "env:GONE"}, "GONE that it refers to is not set"),
            ({"VAST_API_KEY": SECRET, "SSH_KEY_PATH": "/gone"}, "/gone does not exist"),
        ],
    )
    def test_ends_at_what_is_missing(self, run: Run, environ: dict[str, str], says: str) -> None:
        error = run("config", "check", **environ).exception
        assert isinstance(error, SettingsError)
        assert says in str(error)
        assert SECRET not in str(error)

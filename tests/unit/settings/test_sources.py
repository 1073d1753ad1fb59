"""Environment, .env, config file and flags, each by itself."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from vastproxy.settings import Settings, SettingsError, effective_environ, load
from vastproxy.settings.fields import leaves


def settings_from(tmp_path: Path, environ: Mapping[str, str]) -> Settings:
    return load(environ=environ, cwd=tmp_path).settings


def refusal(tmp_path: Path, environ: Mapping[str, str] | None = None, **content: str) -> str:
    """The message for an environment and for files (`dotenv`, `config`) with this content."""
    if "dotenv" in content:
        (tmp_path / ".env").write_text(content["dotenv"])
    if "config" in content:
        (tmp_path / "given.json").write_text(content["config"])
    config_path = Path("given.json") if "config" in content else None
    with pytest.raises(SettingsError) as caught:
        load(environ=environ or {}, cwd=tmp_path, config_path=config_path)
    message = str(caught.value)
    assert message.isprintable(), "one line"
    return message


def test_the_short_names(tmp_path: Path) -> None:
    settings = settings_from(
        tmp_path,
        {
            "VAST_URL": "http://127.0.0.1:9",
            "SSH_KEY_PATH": "~/.ssh/vast",
            "LISTEN_ADDR": ":9",
            "VASTPROXY_LABEL": "none",
            "VASTPROXY_ENV": "Staging",
            "VASTPROXY_API_KEYS": "one, two,",
        },
    )
    assert settings.vast.url == "http://127.0.0.1:9"
    assert settings.tunnels.key_path == "~/.ssh/vast"
    assert settings.server.listen == ":9"
    assert settings.fleet.label == "none"
    assert settings.environment == "staging"
    assert [key.get_secret_value() for key in settings.server.api_keys] == ["one", "two"]


def test_every_setting_has_a_variable_that_sets_it(tmp_path: Path) -> None:
    """The default of each setting, written as text, is accepted under its name."""
    for leaf in leaves().values():
        if leaf.is_secret or leaf.default in (None, ()):
            continue
        value = ",".join(map(str, leaf.default)) if leaf.is_list else str(leaf.default)
        loaded = load(environ={leaf.variable: value}, cwd=tmp_path)
        assert loaded.provenance[leaf.path] == f"environment variable {leaf.variable}"
        assert loaded.settings == Settings()


@pytest.mark.parametrize("text", ["1,2", " 1 , 2 ,", "[1, 2]"])
def test_a_list_is_comma_separated_or_json(tmp_path: Path, text: str) -> None:
    assert settings_from(tmp_path, {"VASTPROXY_FLEET__INCLUDE__IDS": text}).fleet.include.ids == (1, 2)


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    """Compose files hand on unset variables as empty ones."""
    assert (
        settings_from(tmp_path, {"VASTPROXY_LABEL": "", "VASTPROXY_ENV": " ", "VASTPROXY_CONFIG": ""})
        == Settings()
    )


def test_the_long_name_wins_over_the_short_one(tmp_path: Path) -> None:
    environ = {"LISTEN_ADDR": ":1", "VASTPROXY_SERVER__LISTEN": ":2"}
    assert settings_from(tmp_path, environ).server.listen == ":2"


def test_variables_of_a_kubernetes_service_called_vastproxy_are_not_ours(tmp_path: Path) -> None:
    environ = {
        "VASTPROXY_SERVICE_HOST": "10.0.0.1",
        "VASTPROXY_SERVICE_PORT": "8080",
        "VASTPROXY_SERVICE_PORT_HTTP": "8080",
        "VASTPROXY_PORT": "tcp://10.0.0.1:8080",
        "VASTPROXY_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "VASTPROXY_PORT_8080_TCP_ADDR": "10.0.0.1",
        "VASTPROXY_ADMIN_PORT": "tcp://10.0.0.2:9",
    }
    assert settings_from(tmp_path, environ) == Settings()


@pytest.mark.parametrize(
    ("variable", "suggestion"),
    [
        ("VASTPROXY_FLEET__POL_INTERVAL_S", "VASTPROXY_FLEET__POLL_INTERVAL_S"),
        ("VASTPROXY_API_KEY", "VASTPROXY_API_KEYS"),
        ("VASTPROXY_PORT", "LISTEN_ADDR"),
        ("VASTPROXY_POLICY", "VASTPROXY_ROUTING__POLICY"),
        ("VASTPROXY_CONFIGS", "VASTPROXY_CONFIG"),
        ("VASTPROXY_fleet__label", "VASTPROXY_LABEL"),
    ],
)
def test_an_unknown_variable_is_an_error_that_suggests_one(
    tmp_path: Path, variable: str, suggestion: str
) -> None:
    message = refusal(tmp_path, {variable: "a-secret"})
    assert message == f"{variable} (environment variable): no such setting; did you mean {suggestion}?"


def test_an_unknown_variable_like_nothing_known_points_to_the_list(tmp_path: Path) -> None:
    assert "`vastproxy config show` lists them all" in refusal(
        tmp_path, {"VASTPROXY_QQQQQQQQQQQQQQQQQQQQQ": "1"}
    )


def test_a_group_cannot_be_set_as_a_whole(tmp_path: Path) -> None:
    assert "a group of settings; set one of them" in refusal(tmp_path, {"VASTPROXY_FLEET": "{}"})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"VASTPROXY_ENV": "prod"}, "expected one of development, staging, production, got 'prod'"),
        ({"VASTPROXY_VAST__CACHE__TTL_S": "nan"}, "expected a number above 0 and at most 604800, got 'nan'"),
        ({"VASTPROXY_VAST__CACHE__ENABLED": "perhaps"}, "expected true or false, got 'perhaps'"),
        (
            {"VASTPROXY_ENGINES__PORTS": "80,x"},
            "a list, comma separated or as JSON; each entry: a whole number from 1",
        ),
        ({"VASTPROXY_ENGINES__PORTS": "[80"}, "expected a list, comma separated or as JSON"),
        ({"VASTPROXY_FLEET__FORGET_AFTER": "0"}, "expected a whole number at least 1, got '0'"),
        ({"LISTEN_ADDR": "nowhere"}, "expected host:port"),
        ({"VAST_URL": "https://me:hidden@vast"}, "without a user name or password, got 'https://…@vast'"),
        ({"VAST_URL": "x" * 500}, f"got 'https://{'x' * 5}"[:5]),
    ],
)
def test_a_bad_value_names_key_variable_and_what_was_expected(
    tmp_path: Path, environ: dict[str, str], expected: str
) -> None:
    message = refusal(tmp_path, environ)
    [variable] = environ
    assert f"(environment variable {variable}): " in message
    assert expected in message
    assert len(message) < 300


@pytest.mark.parametrize("text", ['["hidden", 1]', '["hidden"', '["hidden", ""]'])
def test_a_bad_secret_is_not_repeated(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, {"VASTPROXY_API_KEYS": text})
    assert "each entry: the secret, env:NAME or file:PATH" in message
    assert "hidden" not in message


class TestDotenv:
    def test_values_and_their_source(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("# ours\nexport LISTEN_ADDR=':7'\nOTHER\nVASTPROXY_LABEL=$x\n")
        loaded = load(environ={}, cwd=tmp_path)
        assert loaded.settings.server.listen == ":7"
        assert loaded.settings.fleet.label == "$x"
        assert loaded.provenance["server.listen"] == "LISTEN_ADDR in .env"

    def test_a_broken_line_is_named(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, dotenv="A=1\n'hidden\n") == ".env line 2: expected NAME=value"

    def test_a_bad_value_names_the_file(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, dotenv="VASTPROXY_ENV=x\n")
        assert message.startswith("environment (VASTPROXY_ENV in .env): expected one of")

    def test_an_unknown_name_names_the_file(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, dotenv="VASTPROXY_NOPE=x\n").startswith(
            "VASTPROXY_NOPE (.env): no such setting"
        )

    def test_text_that_is_none_is_named(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_bytes(b"A=\xff")
        with pytest.raises(SettingsError, match=r"\.env: not UTF-8 text"):
            load(environ={}, cwd=tmp_path)

    def test_a_directory_of_that_name_is_a_virtual_environment(self, tmp_path: Path) -> None:
        (tmp_path / ".env").mkdir()
        assert settings_from(tmp_path, {}) == Settings()

    def test_effective_environ_puts_it_below_the_environment(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("A=file\nB=file\nC=file\n")
        effective = effective_environ({"A": "environment", "B": ""}, tmp_path)
        assert dict(effective) == {"A": "environment", "B": "file", "C": "file"}


class TestConfigFile:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ('{\n"fleet": {,}}', "given.json line 2 column 11: not valid JSON"),
            ("[]", "given.json: expected a JSON object at the top"),
            ('{"fleet": 1}', "fleet (given.json): expected an object with settings"),
            ('{"fleet": {"label": 1}}', "fleet.label (given.json): expected text, got 1"),
            ('{"fleet": {"label": null}}', "fleet.label (given.json): expected text, got null"),
            ('{"fleet": {"poll_interval_s": "3"}}', "expected a number above 0 and at most 604800, got '3'"),
            (
                '{"fleet": {"poll_interval_s": true}}',
                "expected a number above 0 and at most 604800, got true",
            ),
            ('{"fleet": {"pol": 1}}', "fleet.pol (given.json): no such setting; did you mean fleet.poll_i"),
            ('{"fleets": {}}', "fleets (given.json): no such setting; did you mean fleet?"),
            ('{"policy": 1}', "policy (given.json): no such setting; did you mean routing.policy?"),
            ('{"a\\nb": 1}', "a b (given.json): no such setting"),
            ('{"fleet": {}, "fleet": {}}', "given.json: the key 'fleet' is written twice"),
            ('{"fleet": NaN}', "given.json: NaN is not valid JSON"),
            ("[" * 100_000, "given.json: nested too deeply"),
            ("1" * 5000, "given.json: a number in it has too many digits"),
            (
                '{"engines": {"ports": 80}}',
                "expected a list; each entry: a whole number from 1 to 65535, got 80",
            ),
            (" " * (1 << 20) + "{}", "given.json: larger than 1048576 bytes"),
            (
                '{"vast": {"retries": {"base_s": 200}}}',
                "vast.retries (base_s from given.json): expected max_s (120) to be at least base_s (200)",
            ),
            (
                '{"tunnels": {"backoff_min_s": 400}}',
                "tunnels (backoff_min_s from given.json): expected backoff_max_s (300) to be at least",
            ),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, tmp_path: Path, config: str, message: str) -> None:
        assert message in refusal(tmp_path, config=config)

    @pytest.mark.parametrize(
        "config",
        [
            '{"vast": {"api_key": "hidden"}}',
            '{"engines": {"api_key": "hidden"}}',
            '{"server": {"api_keys": ["hidden"]}}',
        ],
    )
    def test_a_literal_secret_is_refused_and_not_repeated(self, tmp_path: Path, config: str) -> None:
        message = refusal(tmp_path, config=config)
        assert "write env:NAME or file:PATH instead of the secret; config files get shared" in message
        assert "hidden" not in message

    def test_references_schema_null_and_a_byte_order_mark_are_fine(self, tmp_path: Path) -> None:
        (tmp_path / "given.json").write_text(
            '{"$schema": "x", "vast": {"api_key": "env:K"}, "tunnels": {"key_path": null}}',
            encoding="utf-8-sig",
        )
        loaded = load(environ={"K": "k"}, cwd=tmp_path, config_path=Path("given.json"))
        key = loaded.resolved().vast.api_key
        assert key is not None
        assert key.get_secret_value() == "k"
        assert loaded.provenance["vast.api_key"] == "given.json"


class TestFlags:
    def test_text_and_values_are_taken_and_none_is_not_given(self, tmp_path: Path) -> None:
        overrides: dict[str, object] = {
            "server.listen": ":5",
            "server.insecure": True,
            "fleet.label": None,
            "engines.ports": (1, 2),
        }
        loaded = load(overrides=overrides, environ={}, cwd=tmp_path)
        assert loaded.settings.server.insecure
        assert loaded.settings.engines.ports == (1, 2)
        assert loaded.provenance["server.listen"] == "command line"
        assert loaded.provenance["fleet.label"] == "built-in default"

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (
                {"server.listen": 5},
                "server.listen (command line): expected host:port, [ipv6]:port or :port, got 5",
            ),
            ({"server.port": 5}, "server.port (command line): no such setting; did you mean server.listen?"),
            ({"logging.level": object()}, "logging.level (command line): expected one of debug"),
        ],
    )
    def test_a_bad_one_is_named(self, tmp_path: Path, overrides: dict[str, object], message: str) -> None:
        with pytest.raises(SettingsError) as caught:
            load(overrides=overrides, environ={}, cwd=tmp_path)
        assert str(caught.value).startswith(message)

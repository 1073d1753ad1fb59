"""Where the key comes from, in which order, and that it shows nowhere."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from vastproxy.settings import SettingsError
from vastproxy.settings.model import VastSettings
from vastproxy.vastai.config import VastConfig, load_vast_config


def key_files(home: Path, **files: str) -> None:
    directory = home / ".config" / "vastai"
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)


def found(home: Path, environ: dict[str, str] | None = None, reference: str | None = None) -> tuple[str, str]:
    section = VastSettings(api_key=None if reference is None else SecretStr(reference))
    config = VastConfig.from_settings(section, environ or {}, home)
    return config.api_key, config.key_source


def test_the_environment_comes_first(tmp_path: Path) -> None:
    key_files(tmp_path, vast_api_key="cli")
    assert found(tmp_path, {"VAST_API_KEY": " env\n", "OTHER": "x"}, "env:OTHER") == ("env", "VAST_API_KEY")


def test_the_environment_may_hold_a_reference(tmp_path: Path) -> None:
    assert found(tmp_path, {"VAST_API_KEY": "env:OTHER", "OTHER": "x"}) == ("x", "VAST_API_KEY")


def test_then_the_reference_of_the_settings(tmp_path: Path) -> None:
    key_files(tmp_path, vast_api_key="cli")
    (tmp_path / "key").write_text("from-file\n")
    assert found(tmp_path, {"OTHER": "x", "VAST_API_KEY": ""}, "env:OTHER") == ("x", "env:OTHER")
    assert found(tmp_path, {}, f"file:{tmp_path}/key") == ("from-file", f"file:{tmp_path}/key")


def test_a_reference_that_leads_nowhere_is_not_replaced_by_another_key(tmp_path: Path) -> None:
    key_files(tmp_path, vast_api_key="cli")
    with pytest.raises(SettingsError, match="OTHER"):
        found(tmp_path, {}, "env:OTHER")


def test_then_the_files_of_the_command_line(tmp_path: Path) -> None:
    """The session key of two-factor login before the plain key, both before the old place."""
    (tmp_path / ".vast_api_key").write_text("legacy\n")
    assert found(tmp_path)[0] == "legacy"
    key_files(tmp_path, vast_api_key="plain\n")
    assert found(tmp_path)[0] == "plain"
    (tmp_path / ".config/vastai/vast_tfa_key").write_text("tfa\n")
    key, source = found(tmp_path)
    assert key == "tfa"
    assert source.endswith("vast_tfa_key")


def test_the_configuration_home_is_respected(tmp_path: Path) -> None:
    (tmp_path / "xdg/vastai").mkdir(parents=True)
    (tmp_path / "xdg/vastai/vast_api_key").write_text("xdg")
    assert found(tmp_path, {"XDG_CONFIG_HOME": str(tmp_path / "xdg")})[0] == "xdg"


def test_no_key_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"VAST_API_KEY.*vastai set api-key") as caught:
        found(tmp_path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nbreak", "clé"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        VastConfig(api_key=key)
    assert not key.strip() or key.strip() not in str(caught.value)


def test_the_key_is_not_in_the_repr() -> None:
    assert "s3cret" not in repr(VastConfig(api_key="s3cret"))


@pytest.mark.parametrize(
    "url", ["https://v.test", "https://v.test/", "https://v.test/api/v0/", "https://v.test/api"]
)
def test_the_address_is_brought_to_its_root(url: str) -> None:
    assert VastConfig(api_key="k", url=url).url == "https://v.test"


def test_everything_else_is_taken_over(tmp_path: Path) -> None:
    section = VastSettings(
        url="http://v.test:1/x", connect_timeout_s=1, read_timeout_s=2, min_interval_scale=0
    )
    config = VastConfig.from_settings(section, {"VAST_API_KEY": "k"}, tmp_path)
    assert config.url == "http://v.test:1/x"
    assert (config.connect_timeout_s, config.read_timeout_s, config.min_interval_scale) == (1, 2, 0)
    assert (config.retries, config.cache) == (section.retries, section.cache)


def test_loaded_like_all_settings(tmp_path: Path) -> None:
    environ = {"VAST_API_KEY": "k", "VAST_URL": "http://127.0.0.1:1/", "HOME": str(tmp_path)}
    config = load_vast_config(environ=environ, cwd=tmp_path)
    assert (config.api_key, config.url) == ("k", "http://127.0.0.1:1")
    assert "VAST_API_KEY" in config.key_source


def test_dotenv_and_references_are_followed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("VASTPROXY_VAST__API_KEY=env:MY_KEY\nMY_KEY=dotted\n")
    config = load_vast_config(environ={"HOME": str(tmp_path)}, cwd=tmp_path)
    assert config.api_key == "dotted"


def test_without_any_setting_the_command_line_files_serve(tmp_path: Path) -> None:
    key_files(tmp_path, vast_api_key="cli\n")
    assert load_vast_config(environ={"HOME": str(tmp_path)}, cwd=tmp_path).api_key == "cli"


def test_a_key_in_a_config_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"vast": {"api_key": "literal-key"}}')
    with pytest.raises(SettingsError) as caught:
        load_vast_config(environ={"HOME": str(tmp_path)}, cwd=tmp_path, config_path=file)
    assert "literal-key" not in str(caught.value)
    assert "env:NAME" in str(caught.value)


def test_the_reference_of_the_shipped_files_does_not_hide_the_command_line_files(tmp_path: Path) -> None:
    """`env:VAST_API_KEY` in a config file means the usual places, of which that variable is the first."""
    key_files(tmp_path, vast_api_key="cli\n")
    file = tmp_path / "config.json"
    file.write_text('{"vast": {"api_key": "env:VAST_API_KEY"}}')
    environ = {"HOME": str(tmp_path)}
    assert load_vast_config(environ=environ, cwd=tmp_path, config_path=file).api_key == "cli"
    environ["VAST_API_KEY"] = "first"
    assert load_vast_config(environ=environ, cwd=tmp_path, config_path=file).api_key == "first"

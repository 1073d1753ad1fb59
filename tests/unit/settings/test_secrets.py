"""References to secrets, and that no error repeats a secret."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from vastproxy.settings import Settings, SettingsError, read_reference, resolve_secret, resolve_secrets

SECRET = "sk-very-secret"


def test_env_reference() -> None:
    assert read_reference("env:KEY", environ={"KEY": f" {SECRET}\n"}, name="x") == SECRET


def test_file_reference_takes_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"  {SECRET} \r\nsecond line\n")
    assert read_reference(f"file:{tmp_path}/key", environ={}, name="x") == SECRET


def test_a_tilde_is_the_home_directory_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    assert read_reference("file:~/key", environ={"HOME": str(tmp_path)}, name="x") == SECRET
    with pytest.raises(SettingsError, match="cannot read ~/key"):
        read_reference("file:~/key", environ={}, name="x")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("env:MISSING", "the environment variable MISSING that it refers to is not set"),
        ("env:EMPTY", "EMPTY that it refers to is not set"),
        ("env:not a name", "expected the name of an environment variable"),
        ("file:", "expected the path of a file"),
        ("file:/does/not/exist", "cannot read /does/not/exist: No such file"),
        ("file:/", "cannot read /: Is a directory"),
        ("file:a\0b", "not a path"),
        (SECRET, "write env:NAME or file:PATH"),
        ("", "write env:NAME or file:PATH"),
        (f"http:{SECRET}", "write env:NAME or file:PATH"),
    ],
)
def test_a_reference_that_leads_nowhere_names_the_setting(reference: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_reference(reference, environ={"EMPTY": " "}, name="vast.api_key")
    assert str(caught.value).startswith("vast.api_key: ")
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"), [(b"\n", "first line of .* is empty"), (b"\xff\xfe", "not a text file")]
)
def test_a_file_without_a_secret(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=says):
        read_reference(f"file:{path}", environ={}, name="x")


@given(st.text())
def test_any_reference_is_read_or_refused_in_one_line(reference: str) -> None:
    message = ""
    try:
        read_reference(reference, environ={}, name="x")
    except SettingsError as error:
        message = str(error)
    assert message.isprintable()


def test_resolving_keeps_what_is_no_reference() -> None:
    literal = SecretStr(SECRET)
    assert resolve_secret(None, environ={}, name="x") is None
    assert resolve_secret(literal, environ={}, name="x") is literal
    resolved = resolve_secret(SecretStr("env:KEY"), environ={"KEY": SECRET}, name="x")
    assert resolved == literal


def test_every_secret_of_the_settings_is_resolved_and_nothing_else_changes() -> None:
    settings = Settings.model_validate(
        {
            "vast": {"api_key": "env:A", "read_timeout_s": 7},
            "engines": {"api_key": "env:B"},
            "server": {"api_keys": ["env:C", "literal"]},
        }
    )
    resolved = resolve_secrets(settings, environ={"A": "a", "B": "b", "C": "c"})
    assert resolved.vast.api_key == SecretStr("a")
    assert resolved.engines.api_key == SecretStr("b")
    assert resolved.server.api_keys == (SecretStr("c"), SecretStr("literal"))
    assert resolved.vast.read_timeout_s == 7
    assert resolve_secrets(resolved, environ={}) == resolved


def test_secrets_are_not_in_the_repr() -> None:
    settings = Settings.model_validate({"vast": {"api_key": SECRET}, "server": {"api_keys": [SECRET]}})
    assert SECRET not in repr(settings) + str(settings)

"""When keys were last used."""

from pathlib import Path

import pytest

from vastproxy.services.access.usefile import note_use, read_use, use_path


def test_several_processes_add_to_it_and_revoked_keys_are_forgotten(tmp_path: Path) -> None:
    path = use_path(tmp_path / "keys.json")
    assert path.name == "keys.used.json"
    note_use(path, {"a": 10.0, "b": 10.0}, {"a", "b"})
    note_use(path, {"a": 5.0, "c": 20.5}, {"a", "c"})
    assert read_use(path) == {"a": 10.0, "c": 20.0}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"a": "x", "b": -1, "c": 1e300, "d": null}', "[" * 100_000]
)
def test_what_is_not_understood_is_not_known(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x"
    path.write_text(content)
    assert read_use(path) == {}
    note_use(path, {"a": 1.0}, {"a"})
    assert read_use(path) == {"a": 1.0}


def test_nothing_there_is_nothing_known(tmp_path: Path) -> None:
    assert read_use(tmp_path / "x") == {}

"""Who wins, and that whatever is given, loading ends in settings or in one line."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.settings import Loaded, Settings, SettingsError, load, load_settings
from vastproxy.settings.fields import leaves, variables

SOURCES = ("command line", "environment variable", "in .env", "file.json", "built-in default")
TOP_DOWN = range(len(SOURCES))


def load_with(directory: Path, present: set[int]) -> Loaded:
    """Load with the label set by the sources in `present`, each to its own number."""
    (directory / ".env").write_text("VASTPROXY_LABEL=2\n" if 2 in present else "")
    content = {"fleet": {"label": "3"}} if 3 in present else {}
    (directory / "file.json").write_text(json.dumps(content))
    return load(
        overrides={"fleet.label": "0"} if 0 in present else None,
        environ={"VASTPROXY_LABEL": "1"} if 1 in present else {},
        cwd=directory,
        config_path=Path("file.json"),
    )


@pytest.mark.parametrize(("higher", "lower"), list(itertools.combinations(TOP_DOWN, 2)))
def test_of_each_pair_of_sources_the_higher_one_wins(tmp_path: Path, higher: int, lower: int) -> None:
    loaded = load_with(tmp_path, {higher, lower})
    assert loaded.settings.fleet.label == str(higher)
    assert SOURCES[higher] in loaded.provenance["fleet.label"]


@given(st.sets(st.sampled_from(TOP_DOWN)))
def test_the_highest_source_that_says_something_wins(present: set[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        loaded = load_with(Path(directory), present)
    winner = min(present | {4})
    assert loaded.settings.fleet.label == ("proxied" if winner == 4 else str(winner))
    assert SOURCES[winner] in loaded.provenance["fleet.label"]


def test_a_higher_source_leaves_the_neighbours_of_its_setting_alone(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"vast": {"cache": {"ttl_s": 1, "max_entries": 7}}}')
    settings = load_settings(
        environ={"VASTPROXY_VAST__CACHE__TTL_S": "2"}, cwd=tmp_path, config_path=Path("c.json")
    )
    assert (settings.vast.cache.ttl_s, settings.vast.cache.max_entries) == (2.0, 7)


def test_every_setting_has_a_provenance(tmp_path: Path) -> None:
    loaded = load(environ={}, cwd=tmp_path)
    assert loaded.provenance.keys() == leaves().keys()
    assert set(loaded.provenance.values()) == {"built-in default"}
    assert loaded.settings == Settings()
    assert loaded.config_path is None


class TestWhichFile:
    def write(self, path: Path, label: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"fleet": {"label": label}}))
        return path

    def test_order(self, tmp_path: Path) -> None:
        """Flag, VASTPROXY_CONFIG, ./config, XDG_CONFIG_HOME, ~/.config."""
        cwd, home, xdg = tmp_path / "cwd", tmp_path / "home", tmp_path / "xdg"
        name = "vastai.staging.json"
        flag = self.write(cwd / "flag.json", "flag")
        variable = self.write(home / "variable.json", "variable")
        local = self.write(cwd / "config" / name, "local")
        in_xdg = self.write(xdg / "vastproxy" / name, "xdg")
        in_home = self.write(home / ".config/vastproxy" / name, "home")
        environ = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(xdg),
            "VASTPROXY_CONFIG": "~/variable.json",
            "VASTPROXY_ENV": "staging",
        }
        assert load(environ=environ, cwd=cwd, config_path=Path("flag.json")).config_path == flag
        assert load(environ=environ, cwd=cwd).config_path == variable
        del environ["VASTPROXY_CONFIG"]
        assert load(environ=environ, cwd=cwd).config_path == local
        local.unlink()
        assert load(environ=environ, cwd=cwd).config_path == in_xdg
        environ["XDG_CONFIG_HOME"] = "relative/is/ignored"
        assert load(environ=environ, cwd=cwd).config_path == in_home
        assert load(environ={"VASTPROXY_ENV": "staging"}, cwd=cwd).config_path is None

    def test_the_environment_may_be_chosen_in_dotenv(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "config/vastai.development.json", "dev")
        (tmp_path / ".env").write_text("VASTPROXY_ENV=development\n")
        loaded = load(environ={}, cwd=tmp_path)
        assert (loaded.config_path, loaded.settings.environment) == (path, "development")

    def test_without_a_choice_it_is_production(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "config/vastai.production.json", "p")
        assert load(environ={}, cwd=tmp_path).config_path == path

    @pytest.mark.parametrize(("flag", "who"), [(True, "--config"), (False, "VASTPROXY_CONFIG")])
    def test_a_named_file_must_exist(self, tmp_path: Path, flag: bool, who: str) -> None:
        environ = {} if flag else {"VASTPROXY_CONFIG": "gone.json"}
        with pytest.raises(SettingsError, match=rf"^{who}: there is no config file gone\.json$"):
            load(environ=environ, cwd=tmp_path, config_path=Path("gone.json") if flag else None)

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
            load(environ={}, cwd=tmp_path, config_path=tmp_path)

    def test_a_file_picked_for_one_environment_cannot_be_of_another(self, tmp_path: Path) -> None:
        content = '{"environment": "staging"}'
        (tmp_path / "config").mkdir()
        (tmp_path / "config/vastai.production.json").write_text(content)
        with pytest.raises(SettingsError, match="expected production, for which this file was picked"):
            load(environ={}, cwd=tmp_path)
        named = load(environ={}, cwd=tmp_path, config_path=Path("config/vastai.production.json"))
        assert named.settings.environment == "staging"


def test_the_process_is_the_default_and_stays_as_it_is(tmp_path: Path) -> None:
    """Without arguments the process's environment and directory are read; .env does not leak into it."""
    (tmp_path / ".env").write_text("VASTPROXY_LABEL=from-dotenv\n")
    code = (
        "import os; from vastproxy.settings import *; before = dict(os.environ)\n"
        "print(load().settings.fleet.label, effective_environ()['VASTPROXY_LABEL'])\n"
        "print(dict(os.environ) == before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=clean_environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["from-dotenv", "from-dotenv", "True"]


def test_a_working_directory_that_is_gone_is_an_error_of_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    code = (
        "import os; from vastproxy.settings import *\n"
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "try: load()\nexcept SettingsError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=gone.parent,
        env=clean_environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "working directory does not exist" in done.stdout


def clean_environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in variables()}


def test_secrets_do_not_print_with_what_was_loaded(tmp_path: Path) -> None:
    environ = {"VASTPROXY_API_KEYS": "hidden", "VASTPROXY_VAST__API_KEY": "hidden", "VAST_API_KEY": "hidden"}
    loaded = load(environ=environ, cwd=tmp_path)
    assert "hidden" not in f"{loaded!r} {loaded.settings!r} {loaded.provenance!r}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NAMES = st.sampled_from(sorted(variables())) | st.text().map("VASTPROXY_".__add__)
TREES = st.dictionaries(
    st.sampled_from(["fleet", "vast", "server", "engines", "environment", "$schema", "x"]),
    JSON | st.dictionaries(st.sampled_from([path.rpartition(".")[2] for path in leaves()]), JSON),
)


@given(
    environ=st.dictionaries(NAMES, st.text(), max_size=3),
    dotenv=st.text() | st.binary(),
    content=TREES.map(json.dumps) | st.text() | st.binary(),
    overrides=st.dictionaries(st.sampled_from(sorted(leaves())), JSON, max_size=2),
)
def test_garbage_is_a_settings_error_of_one_line_and_nothing_else(
    environ: dict[str, str], dotenv: str | bytes, content: str | bytes, overrides: dict[str, object]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / ".env").write_bytes(as_bytes(dotenv))
        (directory / "c.json").write_bytes(as_bytes(content))
        message = "fine"
        try:
            load(overrides=overrides, environ=environ, cwd=directory, config_path=Path("c.json"))
        except SettingsError as error:
            message = str(error)
    assert message.splitlines() == [message]


@given(st.sampled_from([path for path, leaf in leaves().items() if leaf.is_secret]), st.text())
def test_a_garbled_secret_is_in_no_error(path: str, text: str) -> None:
    """Whatever stands around it, the secret part of a value of a secret setting is not repeated."""
    leaf = leaves()[path]
    message = ""
    with tempfile.TemporaryDirectory() as name:
        try:
            load(environ={leaf.variable: f'["s3cr3t{text}'}, cwd=Path(name))
        except SettingsError as error:
            message = str(error)
    assert "s3cr3t" not in message


def as_bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")

"""What is generated from the model is current, and what is shipped fits it."""

import json
from pathlib import Path

import jsonschema
import pytest

from vastproxy.settings import load
from vastproxy.settings.document import BEGIN, END, main, schema_text, settings_tables, with_tables
from vastproxy.settings.expected import describe
from vastproxy.settings.fields import leaves
from vastproxy.settings.schema import settings_schema

ROOT = Path(__file__).parents[3]
REGENERATE = "run: python -m vastproxy.settings.document config/settings.schema.json docs/CONFIGURATION.md"


def test_the_committed_schema_is_current() -> None:
    assert (ROOT / "config/settings.schema.json").read_text() == schema_text(), REGENERATE


def test_the_committed_document_is_current() -> None:
    text = (ROOT / "docs/CONFIGURATION.md").read_text()
    assert with_tables(text) == text, REGENERATE


def test_the_document_names_every_setting_and_variable() -> None:
    tables = settings_tables()
    for leaf in leaves().values():
        assert f"| `{leaf.path}` | `{leaf.variable}` |" in tables


def test_every_setting_is_described() -> None:
    assert [path for path, leaf in leaves().items() if not leaf.description] == []


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(settings_schema())


@pytest.mark.parametrize("environment", ["development", "staging", "production"])
def test_the_shipped_config_files_fit_the_schema_and_load(environment: str) -> None:
    path = ROOT / f"config/vastai.{environment}.json"
    jsonschema.validate(json.loads(path.read_text()), settings_schema())
    loaded = load(environ={"VASTPROXY_ENV": environment}, cwd=ROOT / "tests", config_path=path)
    assert loaded.settings.environment == environment
    assert loaded.settings.vast.cache.ttl_s < loaded.settings.fleet.poll_interval_s


def test_the_shipped_environments_differ() -> None:
    files = {
        (ROOT / f"config/vastai.{name}.json").read_text() for name in ("development", "staging", "production")
    }
    assert len(files) == 3


@pytest.mark.parametrize(
    "content",
    [
        {"vast": {"api_key": "literal"}},
        {"fleet": {"poll_interval_s": 0}},
        {"fleet": {"unknown": 1}},
        {"logging": {"level": "loud"}},
        {"server": {"api_keys": ["literal"]}},
    ],
)
def test_the_schema_refuses_what_loading_refuses(content: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, settings_schema())


def test_examples_in_the_document_load(tmp_path: Path) -> None:
    """Every JSON example is a config file that works."""
    text = (ROOT / "docs/CONFIGURATION.md").read_text()
    examples = [part.partition("```")[0] for part in text.split("```json\n")[1:]]
    assert len(examples) >= 8
    for number, example in enumerate(examples):
        path = tmp_path / f"{number}.json"
        path.write_text(example)
        load(environ={}, cwd=tmp_path, config_path=path)


def test_writing_touches_only_what_is_between_the_markers(tmp_path: Path) -> None:
    document, schema = tmp_path / "doc.md", tmp_path / "schema.json"
    document.write_text(f"above\n{BEGIN}\n~~ before ~~\n{END}\nbelow\n")
    main([str(document), str(schema)])
    text = document.read_text()
    assert text.startswith(f"above\n{BEGIN}\n")
    assert text.endswith(f"{END}\nbelow\n")
    assert "~~ before ~~" not in text
    assert schema.read_text() == schema_text()
    with pytest.raises(ValueError, match="expected the lines"):
        with_tables("no markers")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (float, "a number"),
        (dict[str, int], "a JSON value"),
        (tuple[str, ...], "a list; each entry: text"),
        (int | None, "a whole number"),
    ],
)
def test_types_are_described_in_words(annotation: object, words: str) -> None:
    assert describe(annotation) == words

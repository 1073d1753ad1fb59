"""The JSON Schema of config files, for editors and for checking files without running anything."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from vastproxy.settings.model import Settings
from vastproxy.settings.secrets import REFERENCE_PATTERN

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Without the titles that only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def settings_schema() -> dict[str, Any]:
    """The schema of a config file, generated from the model; its descriptions are the model's docstrings."""
    schema = Settings.model_json_schema(schema_generator=_Generator)
    for definition in (schema, *schema["$defs"].values()):
        definition.pop("title", None)
        for rule in definition.get("properties", {}).values():
            _tidy(rule)
    schema["properties"] = {
        "$schema": {"type": "string", "description": "The path of this schema, for editors."},
        **schema["properties"],
    }
    schema["description"] = "A config file of vastproxy. Everything in it is optional."
    return {"$schema": DIALECT, "title": "vastproxy settings", **schema}


def _tidy(rule: dict[str, Any]) -> None:
    if "$ref" in rule:
        # The default of a group repeats the defaults of what stands in it.
        rule.pop("default", None)
    if "description" in rule:
        rule["description"] = " ".join(rule["description"].split())
    for part in (rule, rule.get("items", {}), *rule.get("anyOf", ())):
        if part.get("format") == "password":
            del part["format"], part["writeOnly"]
            part["pattern"] = REFERENCE_PATTERN

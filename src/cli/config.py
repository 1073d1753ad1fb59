"""`vastproxy config`: what is set, where it comes from, and whether it will do."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from vastproxy.api.app import inbound_keys
from vastproxy.api.auth import KeyRing
from vastproxy.api.webhooks import make_inbox
from vastproxy.cli import render
from vastproxy.cli.options import AsJson, ConfigFile
from vastproxy.cli.serve import server_tls
from vastproxy.services.cache import make_cache
from vastproxy.services.tunnels.factory import host_key_rules, key_access
from vastproxy.services.tunnels.keys import load_client_keys
from vastproxy.services.tunnels.passphrase import terminal_prompt
from vastproxy.settings import Loaded, load, resolve_secret
from vastproxy.settings.document import schema_text
from vastproxy.settings.fields import Leaf, leaves
from vastproxy.settings.listen import require_keys
from vastproxy.settings.model import TunnelSettings
from vastproxy.settings.paths import home
from vastproxy.vastai import VastConfig

config_app = typer.Typer(
    name="config", help="Show and check the settings.", no_args_is_help=True, rich_markup_mode=None
)


@config_app.command("show")
def show(
    config: ConfigFile = None,
    as_json: AsJson = False,
    sources: Annotated[bool, typer.Option("--sources", help="Say where each value comes from.")] = False,
) -> None:
    """Print the settings in effect. Of secrets only whether they are set.

    Examples:

      vastproxy config show --sources

      vastproxy config show --json
    """
    loaded = load(config_path=config)
    values = shown_values(loaded)
    if not as_json:
        render.settings(render.stdout(), values, loaded.provenance if sources else None, loaded.config_path)
        return
    tree = _nested(values)
    file = None if loaded.config_path is None else str(loaded.config_path)
    described = {"config_file": file, "settings": tree, "sources": dict(loaded.provenance)}
    typer.echo(json.dumps(described if sources else tree, indent=2))


@config_app.command("check")
def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Config file; without it the one that `serve` would read."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether the settings will do.

    Loads everything the way `serve` does: settings, the vast.ai API key, the SSH key, inbound keys, the certificate.
    Exits with 2 and one line that says what is wrong, if something is. Nothing is sent anywhere: whether the
    keys are accepted is what `vastproxy doctor` finds out.

    Examples:

      vastproxy config check

      vastproxy config check config/vastai.production.json --json
    """
    found = findings(load(config_path=file))
    if as_json:
        typer.echo(json.dumps(dict(found), indent=2))
    else:
        render.checks(render.stdout(), found)


@config_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of config files, for editors and CI.

    Example:

      vastproxy config schema > settings.schema.json
    """
    typer.echo(schema_text(), nl=False)


def shown_values(loaded: Loaded) -> dict[str, Any]:
    """Every setting by dotted path as JSON can hold it; of a secret only whether it is set."""
    tree = loaded.settings.model_dump()
    return {path: _shown(leaf, _at(tree, path)) for path, leaf in leaves().items()}


def findings(loaded: Loaded) -> list[tuple[str, str]]:
    """What is fine, as pairs of a topic and what was found. Raises SettingsError at what is not."""
    settings = loaded.settings
    resolve_secret(settings.engines.api_key, environ=loaded.environ, name="engines.api_key")
    inbox = make_inbox(settings.webhooks, environ=loaded.environ)
    vast = VastConfig.from_settings(loaded.settings.vast, loaded.environ)
    make_cache(vast.cache, settings.cache, vast=vast, environ=loaded.environ)
    access = key_access(settings.tunnels, loaded.environ, prompt=terminal_prompt())
    ssh_keys = load_client_keys(settings.tunnels, home=home(loaded.environ), access=access)
    host_key_rules(settings.tunnels, loaded.environ)
    keys = inbound_keys(settings, environ=loaded.environ)
    address = require_keys(settings.server.listen, has_keys=bool(keys), insecure=settings.server.insecure)
    tls = server_tls(settings.server, loaded.environ)
    given = sum(source != "built-in default" for source in loaded.provenance.values())
    return [
        ("environment", f"{settings.environment} ({loaded.provenance['environment']})"),
        (
            "config file",
            str(loaded.config_path) if loaded.config_path else "none; built-in defaults are used",
        ),
        ("settings", f"{given} given, {len(loaded.provenance) - given} built-in defaults"),
        ("vast.ai", f"{vast.url}, key found in {vast.key_source}"),
        ("SSH key", " or ".join(f"{key} {key.fingerprint}" for key in ssh_keys.keys)),
        ("host keys", _host_keys(settings.tunnels)),
        ("listens on", f"{address}, {_inbound(keys)}"),
        ("TLS", str(tls.served) if tls is not None else "none; listens with HTTP"),
        ("webhooks", "taken" if inbox.is_open else "refused; webhooks.secret and webhooks.token are not set"),
        ("cache", settings.cache.backend if vast.cache.enabled else "none"),
    ]


def _host_keys(tunnels: TunnelSettings) -> str:
    if tunnels.host_keys == "strict":
        return f"only those listed in {tunnels.known_hosts}"
    return "pinned at first sight"


def _inbound(keys: KeyRing) -> str:
    if not keys:
        return "no inbound keys: whoever reaches that address may ask"
    count = len(keys.current())
    return f"{count} inbound key{'' if count == 1 else 's'}" if count else "no key is good, so nobody may ask"


def _shown(leaf: Leaf, value: Any) -> Any:
    if not leaf.is_secret:
        return list(value) if isinstance(value, tuple) else value
    if isinstance(value, SecretStr):
        return "set"
    return f"{len(value)} set" if value else "not set"


def _at(tree: dict[str, Any], path: str) -> Any:
    value: Any = tree
    for key in path.split("."):
        value = value[key]
    return value


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *parents, name = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = value
    return tree

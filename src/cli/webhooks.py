"""`vastproxy webhooks`: lets vast.ai tell a proxy what happens on the account, and tries whether that works."""

import contextlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from vastproxy.cli import render
from vastproxy.cli.asking import NoProxyThere, asking, proxy_url
from vastproxy.cli.options import AsJson, ConfigFile
from vastproxy.errors import VastproxyError
from vastproxy.settings import Loaded, SettingsError, load, resolve_secret
from vastproxy.vastai import VastClient, VastConfig
from vastproxy.vastai.handlers.events import VAST_EVENTS, Verdict
from vastproxy.vastai.handlers.webhooks import sign
from vastproxy.vastai.webhooks import NotificationType, Webhook

PATH = "/webhooks/vastai"
#: What a webhook subscribes to unless told otherwise: what a proxy can do something about.
USUAL_SLUGS = frozenset(
    {
        *(slug for slug, verdict in VAST_EVENTS.items() if verdict is not Verdict.NOTHING),
        *("instance_created", "upcoming_downtime", "low_credit", "billing_failed"),
    }
)
SecretFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write the secret there, readable by you alone, instead of printing it."
    ),
]
WebhookId = Annotated[int, typer.Argument(metavar="ID", min=1, help="As `webhooks list` shows it.")]

webhooks_app = typer.Typer(
    name="webhooks",
    help="Let vast.ai tell a proxy at once what happens on the account.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class WebhookProblem(VastproxyError):
    """Something about a webhook that a person has to change."""


@webhooks_app.command("list")
def list_webhooks(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the account's webhooks. Their secrets cannot be shown again.

    Example:

      vastproxy webhooks list --json
    """
    with _client(load(config_path=config)) as client:
        found = client.webhooks.list()
    if as_json:
        typer.echo(json.dumps([one.to_json() for one in found], indent=2))
        return
    console = render.stdout()
    for one in found:
        render.line(console, f"{one.id}  {one.url}  {one.name}")
        render.line(console, f"    {', '.join(one.event_types) or 'no events'}")
    if not found:
        render.line(
            console, f"no webhooks; make one with: vastproxy webhooks create https://YOUR-PROXY{PATH}"
        )


@webhooks_app.command("create")
def create(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the proxy is reached, with https.")],
    name: Annotated[str, typer.Option(help="What vast.ai calls it.")] = "vastproxy",
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="SLUG", help="What to be told of, such as outbid. Default: all that is of use."),
    ] = None,
    secret_file: SecretFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let vast.ai send events to a proxy.

    The address must be public and https. The secret with which they are signed is shown only now.

    Example:

      vastproxy webhooks create https://proxy.example.com --secret-file ~/.config/vastproxy/webhook-secret
    """
    target = receiving(url)
    with _client(load(config_path=config)) as client, _keeping(secret_file) as keep:
        existing = next((one for one in client.webhooks.list() if one.url == target), None)
        if existing is not None:
            raise WebhookProblem(
                f"webhook {existing.id} sends to {target} already; "
                f"for a new secret: vastproxy webhooks rotate {existing.id}"
            )
        keys = wanted_keys(client.webhooks.types(), event or ())
        made = client.webhooks.create(target, keys, name=name)
        keep(made.secret)
    if not as_json:
        render.line(
            render.stdout(),
            f"webhook {made.id} sends {len(made.event_types or keys)} kinds of events to {made.url or target}",
        )
    _tell_secret(made, secret_file, as_json=as_json)


@webhooks_app.command("rotate")
def rotate(
    webhook_id: WebhookId, secret_file: SecretFile = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Make a new secret for a webhook. Events are refused until the proxy knows it.

    Example:

      vastproxy webhooks rotate 71 --secret-file ~/.config/vastproxy/webhook-secret
    """
    with _client(load(config_path=config)) as client, _keeping(secret_file) as keep:
        made = client.webhooks.rotate_secret(webhook_id)
        keep(made.secret)
    _tell_secret(made, secret_file, as_json=as_json)


@webhooks_app.command("delete")
def delete(
    webhook_id: WebhookId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    config: ConfigFile = None,
) -> None:
    """Let vast.ai send nothing there any more.

    Example:

      vastproxy webhooks delete 71
    """
    with _client(load(config_path=config)) as client:
        if not (yes or typer.confirm(f"Delete webhook {webhook_id}?", default=False)):
            raise WebhookProblem("nothing was changed")
        client.webhooks.delete(webhook_id)
    render.line(render.stdout(), f"webhook {webhook_id} is deleted")


@webhooks_app.command("test")
def try_out(
    url: Annotated[
        str | None,
        typer.Argument(metavar="[URL]", help="The proxy. Default: where the settings say that it listens."),
    ] = None,
    webhook_id: Annotated[
        int | None, typer.Option("--id", min=1, help="Let vast.ai send the event, to this webhook.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Send a test event to a running proxy.

    Signed with webhooks.secret, as vast.ai would sign it; so the proxy must have the same secret. With --id it is
    vast.ai that sends one, to the address of that webhook: the proxy's log says whether it came.

    Examples:

      vastproxy webhooks test

      vastproxy webhooks test --id 71
    """
    loaded = load(config_path=config)
    console = render.stdout()
    if webhook_id is not None:
        if url is not None:
            raise SettingsError("either URL or --id: vast.ai knows the address of its webhook")
        with _client(loaded) as client:
            client.webhooks.send_test(webhook_id)
        render.line(console, f"vast.ai sends a test event to webhook {webhook_id}; see the log of the proxy")
        return
    secret = resolve_secret(loaded.settings.webhooks.secret, environ=loaded.environ, name="webhooks.secret")
    if secret is None:
        raise SettingsError("webhooks.secret is not set, so there is nothing to sign a test event with")
    base = proxy_url(url, loaded).removesuffix(PATH)
    took_s = send_test(base, secret.get_secret_value(), now=int(time.time()))
    render.line(console, f"{base}{PATH} took the test event in {took_s * 1000:.0f} ms")


def receiving(url: str) -> str:
    """The address that receives events, of a proxy that is reached at `url`. Raises SettingsError."""
    try:
        parts = urlsplit(url.strip() if "://" in url else f"https://{url.strip()}")
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname or parts.username is not None:
        raise SettingsError(
            f"URL (command line): expected https://host or https://host{PATH}; vast.ai sends to no other"
        )
    return (
        parts.geturl().rstrip("/") + PATH if parts.path in ("", "/") and not parts.query else parts.geturl()
    )


def wanted_keys(types: Iterable[NotificationType], asked: Sequence[str]) -> list[str]:
    """What to subscribe to, of what vast.ai offers: `asked`, or all that is of use. Raises SettingsError."""
    # A host's events tell of machines that somebody rents out.
    offered = {one.slug: one.key for one in types if one.key.startswith("client:")}
    slugs = [one.removeprefix("client:") for one in asked] or sorted(USUAL_SLUGS & offered.keys())
    if unknown := [slug for slug in slugs if slug not in offered]:
        raise SettingsError(
            f"--event {unknown[0]}: vast.ai does not tell of that; it does of {', '.join(sorted(offered))}"
        )
    return [offered[slug] for slug in dict.fromkeys(slugs)]


def send_test(base: str, secret: str, *, now: int) -> float:
    """Send a signed test event to the proxy at `base`: how many seconds it took. Raises VastproxyError."""
    event = {
        "event_id": secrets.token_hex(16),
        "notif_type": "webhook_test",
        "subject": "Webhook test",
        "message": "Sent by vastproxy webhooks test.",
        "timestamp": now,
    }
    body = json.dumps(event).encode()
    headers = {
        "Content-Type": "application/json",
        "X-Vast-Event-Id": str(event["event_id"]),
        "X-Vast-Delivery-Attempt": "1",
        "X-Vast-Timestamp": str(now),
        "X-Vast-Signature-256": sign(secret, now, body),
    }
    with asking(base, key=None) as proxy:
        response = proxy.post(PATH, body, headers)
        answer: dict[str, Any] = proxy.object(response)
    if response.status_code == 200 and answer.get("received") is True:
        return response.elapsed.total_seconds()
    error = answer.get("error")
    if not isinstance(error, dict):
        raise NoProxyThere(f"what answers at {base}{PATH} is not vastproxy; check the URL")
    said = render.clean(str(error.get("message", "")))[:300].rstrip(".")
    raise WebhookProblem(f"{base} refuses the test event (HTTP {response.status_code}): {said}")


def _client(loaded: Loaded) -> VastClient:
    return VastClient(VastConfig.from_settings(loaded.settings.vast, loaded.environ))


@contextlib.contextmanager
def _keeping(path: Path | None) -> Iterator[Callable[[str | None], None]]:
    """A function that writes the secret to the file. That it can be written is known before a secret is made."""
    if path is None:
        yield lambda secret: None
        return
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.expanduser().parent, prefix=".vastproxy-")
    except OSError as error:
        raise WebhookProblem(
            f"{path} cannot be written: {error.strerror or error}; nothing was made"
        ) from None

    def keep(secret: str | None) -> None:
        with os.fdopen(os.dup(descriptor), "w") as file:
            file.write(f"{secret}\n")
        os.replace(temporary, path.expanduser())

    try:
        yield keep
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _tell_secret(made: Webhook, file: Path | None, *, as_json: bool) -> None:
    if as_json:
        secret = {} if file is not None else {"secret": made.secret}
        typer.echo(json.dumps({**made.to_json(), **secret}, indent=2))
        return
    console = render.stdout()
    if file is None:
        render.line(console, "its secret, which cannot be shown again:")
        render.line(console, f"  VASTPROXY_WEBHOOKS__SECRET={made.secret}")
    else:
        render.line(
            console, f"its secret is in {file}; set webhooks.secret to file:{file.expanduser().absolute()}"
        )
    render.line(console, f"start the proxy with it, then try: vastproxy webhooks test --id {made.id}")

"""Every setting: its name, type, default, unit and reason. No reading, no network, no clock.

The path of a field is its name everywhere: `fleet.poll_interval_s` is `{"fleet": {"poll_interval_s": …}}`
in a file and `VASTPROXY_FLEET__POLL_INTERVAL_S` in the environment.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from vastproxy.settings.admission import AdmissionSettings, PassiveHealthSettings, QueueSettings
from vastproxy.settings.cache import CacheSettings
from vastproxy.settings.expected import Expected
from vastproxy.settings.exposure import Exposure
from vastproxy.settings.ledger import LedgerSettings
from vastproxy.settings.listen import checked_listen
from vastproxy.settings.logs import LoggingSettings
from vastproxy.settings.metrics import MetricsSettings
from vastproxy.settings.routing import RoutingSettings
from vastproxy.settings.section import HttpUrl, Seconds, Secret, Section
from vastproxy.settings.tracing import TracingSettings
from vastproxy.settings.webhooks import WebhookSettings

Port = Annotated[int, Field(ge=1, le=65_535)]
Environment = Literal["development", "staging", "production"]
Listen = Annotated[str, AfterValidator(checked_listen), Expected("host:port, [ipv6]:port or :port")]


class RetrySettings(Section):
    """What is done when a call to vast.ai fails for a reason that may pass."""

    attempts: Annotated[int, Field(ge=1, le=10)] = 4
    """Tries in total for one API call, the first included."""
    base_s: Seconds = 2.0
    """First pause before a retry; doubles each time, with jitter."""
    max_s: Seconds = 120.0
    """Longest pause before a retry, also for a Retry-After sent by vast.ai."""

    @model_validator(mode="after")
    def _pauses_grow(self) -> Self:
        if self.max_s < self.base_s:
            raise ValueError(f"expected max_s ({self.max_s:g}) to be at least base_s ({self.base_s:g})")
        return self


class VastCacheSettings(Section):
    """Answers of vast.ai that are kept for a moment."""

    enabled: bool = True
    """Answer repeated reads from memory."""
    ttl_s: Seconds = 5.0
    """How long an answer stays fresh. Keep it below fleet.poll_interval_s."""
    max_entries: Annotated[int, Field(ge=1)] = 256
    """Most answers kept."""


class VastSettings(Section):
    """The vast.ai REST API."""

    url: HttpUrl = "https://console.vast.ai"
    """API root without /api/v0 (VAST_URL)."""
    api_key: Secret | None = None
    """The key, as a reference: `env:NAME` or `file:PATH`. VAST_API_KEY comes before it, the official CLI's
    key file after it."""
    connect_timeout_s: Seconds = 5.0
    """Limit for the TCP and TLS connection."""
    read_timeout_s: Seconds = 30.0
    """Limit for each wait for bytes of an answer."""
    retries: RetrySettings = RetrySettings()
    cache: VastCacheSettings = VastCacheSettings()
    min_interval_scale: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Factor on the minimum intervals between calls to one endpoint that vast.ai documents; 0 switches them
    off."""


class ServerSettings(Exposure):
    """The listening side."""

    listen: Listen = "127.0.0.1:8080"
    """host:port (LISTEN_ADDR). `:8080` names no host and means 127.0.0.1; write 0.0.0.0:8080 to listen
    everywhere. Port 0 takes any free port."""
    api_keys: tuple[Secret, ...] = ()
    """Keys that clients may send as bearer, beside those of `vastproxy keys` (VASTPROXY_API_KEYS, comma separated); in
    a file as references (`env:NAME`, `file:PATH`). Without any key everybody on loopback may ask."""
    insecure: bool = False
    """Allow a non-loopback address without any key (--insecure)."""
    shutdown_grace_s: Annotated[float, Field(ge=0, le=86_400)] = 180.0
    """How long running streams may go on after SIGTERM. Streams of reasoning models last minutes."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024
    """Largest request body; more is answered 413. A context of a million tokens with images needs tens of
    MB."""
    max_header_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 64 * 1024
    """Largest request line and headers together; more is answered 431, a longer request line 414."""
    max_headers: Annotated[int, Field(ge=10, le=10_000)] = 100
    """Most headers of a request; more is answered 431."""
    client_idle_timeout_s: Seconds = 75.0
    """How long a client's connection is kept between two requests. Longer than what clients keep (httpx 5 s,
    Go 90 s), so that it is they who close."""
    client_header_timeout_s: Seconds = 30.0
    """Limit for a request's headers, from their first byte: who sends them byte by byte wants to hold the
    connection (408)."""
    client_body_timeout_s: Seconds = 60.0
    """Longest silence within a request's body (408)."""
    client_body_min_rate: Annotated[float, Field(ge=0, le=1_000_000)] = 500.0
    """Least bytes per second of a request's body. Who falls behind by client_body_timeout_s wants to hold a place at
    an engine (408); Apache's default. 0: however slowly."""
    client_write_timeout_s: Seconds = 300.0
    """How long a client may take not one byte of its answer before it counts as gone; it holds a place at the
    engine meanwhile."""
    forwarded: Literal["append", "replace", "remove"] = "append"
    """What engines are told of the client in Forwarded and X-Forwarded-*: added to what it brought, instead of it, or
    nothing at all."""
    allow_paths: tuple[str, ...] = ()
    """Engine paths that are refused by default (such as /flush_cache) and shall be proxied all the same."""
    allow_destroy: bool = True
    """Let holders of a key with the admin right destroy instances through this proxy, for ever. false: it refuses, and
    only the account's key does it."""


class Selector(Section):
    """Which instances. An empty list says nothing; several lists are alternatives."""

    ids: tuple[int, ...] = ()
    """Instance ids."""
    labels: tuple[str, ...] = ()
    """Labels set on vast.ai. Shell wildcards (`llama-*`) work here and in the three lists below; case does
    not matter."""
    templates: tuple[str, ...] = ()
    """Template names, ids or hashes."""
    images: tuple[str, ...] = ()
    """Container images, such as `lmsysorg/sglang*`."""
    gpus: tuple[str, ...] = ()
    """GPU names as vast.ai writes them, such as `H100*` or `RTX 4090`."""


class FleetSettings(Section):
    """Which instances are served, and how they are watched."""

    include: Selector = Selector()
    """Serve only these. Empty: every running instance in which an engine answers."""
    exclude: Selector = Selector()
    """Never serve these, even if included."""
    label: str = "proxied"
    """Label set on an instance while it is healthy (VASTPROXY_LABEL); `none` switches labels off."""
    poll_interval_s: Seconds = 10.0
    """Time between two readings of the instance list."""
    poll_jitter: Annotated[float, Field(ge=0, le=0.9)] = 0.2
    """Share by which that time varies, so that several proxies do not ask at once."""
    forget_after: Annotated[int, Field(ge=1)] = 2
    """An instance is forgotten after it was missing in this many complete lists in a row."""
    probe_interval_s: Seconds = 5.0
    """Time between two probes of a backend."""
    drain_before_end_s: Annotated[float, Field(ge=0, le=86_400 * 7)] = 600.0
    """How long before the end of its contract an instance gets no new requests, so that running ones can end. 0: it
    gets them to the end."""
    unhealthy_after: Annotated[int, Field(ge=1)] = 3
    """Failed probes in a row that make a healthy backend unhealthy. SGLang's /health fails under long
    prefills."""


class EngineSettings(Section):
    """What runs inside an instance."""

    ports: tuple[Port, ...] = (18000, 8000, 30000, 11434, 21434, 8080, 80)
    """Ports tried inside the instance, after those that its portal and its arguments name."""
    api_key: Secret | None = None
    """Bearer sent to engines instead of the instance's own token. A reference (`env:NAME`, `file:PATH`)."""
    health_timeout_s: Seconds = 25.0
    """Limit for a health probe. SGLang's takes at least 1 s and up to 20 s under load."""
    detect_timeout_s: Seconds = 5.0
    """Limit for each request of the detection, and for reading models and load."""
    discover_interval_s: Seconds = 300.0
    """Time between two searches for engines that were started later. Engines that serve are not asked by it. Without
    an engine the search is part of every probe."""
    load_interval_s: Annotated[float, Field(ge=0, le=86_400)] = 5.0
    """Time between two readings of how busy an engine is, where it tells; they come with the probes, so not more often
    than fleet.probe_interval_s. 0: never. vLLM answers with 50 to 200 KB each time: raise it for hundreds of them."""
    gpu_timeout_s: Seconds = 10.0
    """Limit for nvidia-smi, which hangs on a sick GPU."""


class TunnelSettings(Section):
    """SSH connections."""

    engine: Literal["asyncssh", "sshtunnel"] = "asyncssh"
    """The SSH implementation. sshtunnel carries about 330 streams in all and costs more; see docs/TUNNELS.md."""
    paths: Literal["both", "one"] = "both"
    """Keep the direct connection and the one over vast.ai's relay, so that losing one costs nothing (both); or the
    relay only while the direct one cannot be had (one)."""
    key_path: str | None = None
    """Private key (SSH_KEY_PATH). Without it ~/.ssh/id_ed25519, id_ecdsa and id_rsa are tried in that
    order."""
    key_passphrase: Secret | None = None
    """Passphrase of the private key (VASTPROXY_TUNNELS__KEY_PASSPHRASE); in a file as a reference (`env:NAME`,
    `file:PATH`). Without it `serve` asks for it on a terminal."""
    agent: Literal["auto", "on", "off"] = "auto"
    """Keys held by an ssh-agent ($SSH_AUTH_SOCK): used when no key file can be used (auto), used instead of key
    files (on), or never (off)."""
    host_keys: Literal["pin", "strict"] = "pin"
    """Which host keys are accepted: the one seen first, until a person accepts another (pin), or those listed in
    tunnels.known_hosts alone (strict)."""
    known_hosts: str | None = None
    """The known_hosts file for host_keys: strict. Lists `[host]:port` and key, hashed names and @revoked too."""
    state_dir: str | None = None
    """Where pinned host keys are kept. Default: $XDG_STATE_HOME/vastproxy or ~/.local/state/vastproxy."""
    connect_timeout_s: Seconds = 10.0
    """Limit for connecting and logging in over one path."""
    keepalive_interval_s: Seconds = 5.0
    """How long an SSH connection may be silent before it is asked for a sign of life."""
    keepalive_count: Annotated[int, Field(ge=1)] = 2
    """Unanswered keepalive messages after which a connection is given up."""
    backoff_min_s: Seconds = 5.0
    """First pause after a failed connection. Since OpenSSH 9.8 sshd punishes hosts that come back faster."""
    backoff_max_s: Seconds = 300.0
    """Longest pause after failed connections."""
    upgrade_interval_s: Seconds = 30.0
    """Time between attempts to get from the relay to the direct path, where paths is one."""
    streams_per_connection: Annotated[int, Field(ge=1)] = 256
    """Requests at the same time from which on another SSH connection is opened beside the first."""
    max_connections: Annotated[int, Field(ge=1, le=16)] = 4
    """SSH connections to one instance over the same path, at most."""
    window_bytes: Annotated[int, Field(ge=4096, le=1 << 30)] = 512 * 1024
    """What a stream may hold for a client that reads slowly. A download gets about this much per round trip."""
    max_handshakes: Annotated[int, Field(ge=1)] = 16
    """SSH handshakes at the same time; each costs milliseconds of CPU and many instances can start at
    once."""

    @model_validator(mode="after")
    def _strict_needs_a_file(self) -> Self:
        if self.host_keys == "strict" and self.known_hosts is None:
            raise ValueError("expected known_hosts (a file) where host_keys is strict")
        return self

    @model_validator(mode="after")
    def _pauses_grow(self) -> Self:
        if self.backoff_max_s < self.backoff_min_s:
            raise ValueError(
                f"expected backoff_max_s ({self.backoff_max_s:g}) "
                f"to be at least backoff_min_s ({self.backoff_min_s:g})"
            )
        return self


class UpstreamSettings(Section):
    """HTTP to the engines."""

    connect_timeout_s: Seconds = 10.0
    """Limit for opening a stream to the engine."""
    headers_timeout_s: Seconds = 600.0
    """Limit for the response headers: without streaming they come with the whole answer."""
    idle_timeout_s: Seconds = 180.0
    """Longest silence between two pieces of a response."""
    total_timeout_s: Seconds | None = None
    """Limit for a whole request with its answer. Off: long answers are what these machines are for."""
    pool_idle_s: Annotated[float, Field(ge=0)] = 3.0
    """A connection idle for longer is not used again: engines on uvicorn close at 5 s."""
    pool_max_idle: Annotated[int, Field(ge=0)] = 64
    """Idle connections kept per backend."""
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Backends tried for one request, when it is certain that the ones before did not begin it."""


class Settings(Section):
    """Everything vastproxy can be told. Made by `load_settings`; secrets are never in its `repr`."""

    environment: Environment = "production"
    """VASTPROXY_ENV: picks config/vastai.<environment>.json."""
    vast: VastSettings = VastSettings()
    server: ServerSettings = ServerSettings()
    fleet: FleetSettings = FleetSettings()
    engines: EngineSettings = EngineSettings()
    tunnels: TunnelSettings = TunnelSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    routing: RoutingSettings = RoutingSettings()
    admission: AdmissionSettings = AdmissionSettings()
    queue: QueueSettings = QueueSettings()
    passive_health: PassiveHealthSettings = PassiveHealthSettings()
    cache: CacheSettings = CacheSettings()
    webhooks: WebhookSettings = WebhookSettings()
    logging: LoggingSettings = LoggingSettings()
    tracing: TracingSettings = TracingSettings()
    metrics: MetricsSettings = MetricsSettings()
    ledger: LedgerSettings = LedgerSettings()

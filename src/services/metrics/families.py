"""Every metric of ours: its name, what it counts, its labels. docs/METRICS.md is made from this list. Pure.

`gen_ai_*` are those of OpenTelemetry's semantic conventions for generative AI (development, read 2026-11), with the
dots of names and attributes as underscores and the unit at the end, as OpenTelemetry's exporters for Prometheus write
them. Everything else is ours and begins with `vastproxy_`. `instance_id` is the id on vast.ai: a plain `instance`
would be taken for Prometheus' own label, the address that was scraped.
"""

from typing import Final

from vastproxy.services.metrics.cost_families import COST_FAMILIES
from vastproxy.services.metrics.exposition import Family
from vastproxy.services.metrics.left_families import ACCOUNT_FAMILIES, COST, LEFT_FAMILIES
from vastproxy.services.metrics.watch_families import WATCH_FAMILIES

_GEN_AI: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_ONE: Final = ("instance_id",)
_PATH: Final = ("instance_id", "path")
_ENGINE: Final = ("instance_id", "port", "engine")
_GPU: Final = ("instance_id", "gpu")

# ── requests ───────────────────────────────────────────────────────────────────────────────────────

REQUESTS: Final = Family(
    "vastproxy_requests_total",
    "counter",
    "Requests that have ended, by what was asked for and the status answered; 499: the client left.",
    ("operation", "model", "code"),
)
ERRORS: Final = Family(
    "vastproxy_request_errors_total",
    "counter",
    "Requests that did not end well, by kind: the code in the error's body, client_left, or http_ and the status "
    "where the engine said so itself.",
    ("kind",),
)
RETRIES: Final = Family(
    "vastproxy_retries_total", "counter", "Attempts beyond the first, of all requests that have ended."
)
RECEIVED: Final = Family(
    "vastproxy_received_bytes_total", "counter", "Bytes of request bodies received from clients."
)
SENT: Final = Family("vastproxy_sent_bytes_total", "counter", "Bytes of bodies sent to clients.")
QUEUE_WAIT: Final = Family(
    "vastproxy_queue_wait_seconds",
    "histogram",
    "How long requests waited for a place at a backend; those that did not wait count with 0.",
    ("model",),
)
DURATION: Final = Family(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "From the first byte of a request to the last of its answer. error_type is the kind of error; it is left out where "
    "there was none.",
    (*_GEN_AI, "error_type"),
)
TTFT: Final = Family(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "From the first byte of a request to the first of its answer, the wait for a place included. Streams that were "
    "answered without an error.",
    _GEN_AI,
)
TPOT: Final = Family(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "Mean time between two tokens of one answer: from first byte to last, by the tokens after the first, or by pieces "
    "received where the engine does not tell the number of tokens. Streams answered without an error.",
    _GEN_AI,
)
TOKENS: Final = Family(
    "gen_ai_client_token_usage",
    "histogram",
    "Tokens of one request, in its prompt (input) and in its answer (output), as the engine counts them; requests "
    "whose engine tells nothing are not in it.",
    (*_GEN_AI, "gen_ai_token_type"),
)
BACKEND_TTFT: Final = Family(
    "vastproxy_backend_time_to_first_token_seconds",
    "summary",
    "As gen_ai_server_time_to_first_token_seconds, by the instance that answered: sum and count.",
    _ONE,
)
BACKEND_TOKENS: Final = Family(
    "vastproxy_backend_output_tokens_total", "counter", "Tokens that an instance answered with.", _ONE
)

# ── the proxy ──────────────────────────────────────────────────────────────────────────────────────

BUILD: Final = Family("vastproxy_build_info", "info", "The version that runs; always 1.", ("version",))
IN_FLIGHT: Final = Family("vastproxy_requests_in_flight", "gauge", "Requests at engines now.")
WAITING: Final = Family(
    "vastproxy_requests_waiting",
    "gauge",
    "Requests that wait for a place at a backend, by class.",
    ("priority",),
)
EJECTIONS: Final = Family(
    "vastproxy_ejections_total",
    "counter",
    "Times that an engine was left alone for a while because requests had failed there.",
)
EJECTED: Final = Family(
    "vastproxy_backends_ejected", "gauge", "Engines that get no requests now for that reason."
)
RETRY_BUDGET: Final = Family(
    "vastproxy_retry_budget",
    "gauge",
    "Retries that may be made now before requests fail at their first error.",
)
TASKS: Final = Family("vastproxy_tasks", "gauge", "Tasks of the event loop.")
THREADS: Final = Family("vastproxy_threads", "gauge", "Threads of the process that run Python.")

# ── vast.ai ────────────────────────────────────────────────────────────────────────────────────────

API_UP: Final = Family(
    "vastproxy_vast_api_up",
    "gauge",
    "Was the instance list read when it was tried last? Absent before the first try.",
)
API_LATENCY: Final = Family(
    "vastproxy_vast_api_latency_seconds", "gauge", "How long the last reading of the instance list took."
)
API_CALLS: Final = Family(
    "vastproxy_vast_api_call_duration_seconds",
    "histogram",
    "Calls to the vast.ai API, the failed ones too, by operation.",
    ("operation",),
)
API_ERRORS: Final = Family(
    "vastproxy_vast_api_errors_total",
    "counter",
    "Calls to the vast.ai API that failed, by operation and code.",
    ("operation", "code"),
)
POLLS_FAILED: Final = Family(
    "vastproxy_polls_failed_total",
    "counter",
    "Readings of the instance list that failed; the last good one is kept.",
)

# ── backends ───────────────────────────────────────────────────────────────────────────────────────

BACKENDS: Final = Family("vastproxy_backends", "gauge", "Backends by state.", ("state",))
STATE_CHANGES: Final = Family(
    "vastproxy_backend_state_changes_total",
    "counter",
    "Changes of a backend's state, by the new state.",
    ("state",),
)
PATH_CHANGES: Final = Family(
    "vastproxy_path_changes_total",
    "counter",
    "Changes of the path that new requests take, by the new one.",
    ("path",),
)
UP: Final = Family("vastproxy_backend_up", "gauge", "Does it take requests? 1 or 0.", _ONE)
STATE: Final = Family(
    "vastproxy_backend_state",
    "gauge",
    "1 for the state that it is in; no sample for others.",
    ("instance_id", "state"),
)
STATE_SINCE: Final = Family(
    "vastproxy_backend_state_seconds", "gauge", "How long it has been in this state.", _ONE
)
INFO: Final = Family(
    "vastproxy_backend_info",
    "info",
    "What is rented and what runs there; always 1.",
    ("instance_id", "gpu_name", "gpus", "engine", "path"),
)
BACKEND_IN_FLIGHT: Final = Family("vastproxy_backend_in_flight", "gauge", "Requests of ours at it now.", _ONE)
BACKEND_REQUESTS: Final = Family(
    "vastproxy_backend_requests_total", "counter", "Attempts that were sent to it.", _ONE
)
BACKEND_FAILURES: Final = Family(
    "vastproxy_backend_failures_total",
    "counter",
    "Attempts that it, and not the client, is to blame for.",
    _ONE,
)
TUNNEL_UP: Final = Family(
    "vastproxy_tunnel_up", "gauge", "Does an SSH connection over this path answer? 1 or 0.", _PATH
)
TUNNEL_CONNECTIONS: Final = Family(
    "vastproxy_tunnel_connections", "gauge", "SSH connections over this path.", _PATH
)
TUNNEL_STREAMS: Final = Family(
    "vastproxy_tunnel_streams", "gauge", "HTTP connections carried over this path.", _PATH
)
HOST_KEY: Final = Family(
    "vastproxy_tunnel_host_key_refused",
    "gauge",
    "1 while connections over this path are refused because of the instance's host key; no sample otherwise.",
    _PATH,
)
ENGINE_UP: Final = Family("vastproxy_engine_up", "gauge", "Is the engine healthy? 1 or 0.", _ENGINE)
ENGINE_IN_FLIGHT: Final = Family(
    "vastproxy_engine_in_flight", "gauge", "Requests of ours at the engine now.", _ENGINE
)
ENGINE_RUNNING: Final = Family(
    "vastproxy_engine_running", "gauge", "Requests that the engine works on, as it says itself.", _ENGINE
)
ENGINE_WAITING: Final = Family(
    "vastproxy_engine_waiting", "gauge", "Requests that wait inside the engine, as it says itself.", _ENGINE
)
ENGINE_CAPACITY: Final = Family(
    "vastproxy_engine_capacity", "gauge", "Requests that the engine takes on at the same time.", _ENGINE
)
ENGINE_CACHE: Final = Family(
    "vastproxy_engine_cache_used_ratio",
    "gauge",
    "Share of the engine's KV cache that is in use, 0 to 1.",
    _ENGINE,
)

# ── GPUs ───────────────────────────────────────────────────────────────────────────────────────────

GPU_UTILIZATION: Final = Family(
    "vastproxy_gpu_utilization_ratio", "gauge", "Share of time in use, 0 to 1.", _GPU
)
GPU_TEMPERATURE: Final = Family("vastproxy_gpu_temperature_celsius", "gauge", "Temperature of the GPU.", _GPU)
GPU_MEMORY_USED: Final = Family("vastproxy_gpu_memory_used_bytes", "gauge", "Memory in use.", _GPU)
GPU_MEMORY_TOTAL: Final = Family("vastproxy_gpu_memory_total_bytes", "gauge", "Memory that there is.", _GPU)
GPU_POWER: Final = Family("vastproxy_gpu_power_watts", "gauge", "Power drawn.", _GPU)
GPU_POWER_LIMIT: Final = Family(
    "vastproxy_gpu_power_limit_watts", "gauge", "Most power that it may draw.", _GPU
)
GPU_SIGNS: Final = Family(
    "vastproxy_gpu_sign",
    "gauge",
    "1 while there is this sign of trouble; no sample otherwise. fault=yes: somebody has to do something.",
    ("instance_id", "gpu", "sign", "fault"),
)

REQUEST_FAMILIES: Final = (
    REQUESTS,
    ERRORS,
    RETRIES,
    RECEIVED,
    SENT,
    QUEUE_WAIT,
    DURATION,
    TTFT,
    TPOT,
    TOKENS,
    BACKEND_TTFT,
    BACKEND_TOKENS,
)
PROXY_FAMILIES: Final = (BUILD, IN_FLIGHT, WAITING, EJECTIONS, EJECTED, RETRY_BUDGET, TASKS, THREADS)
VAST_FAMILIES: Final = (
    API_UP,
    API_LATENCY,
    API_CALLS,
    API_ERRORS,
    POLLS_FAILED,
    *ACCOUNT_FAMILIES,
)
BACKEND_FAMILIES: Final = (
    UP,
    STATE,
    STATE_SINCE,
    INFO,
    BACKEND_IN_FLIGHT,
    BACKEND_REQUESTS,
    BACKEND_FAILURES,
    COST,
    *LEFT_FAMILIES,
    TUNNEL_UP,
    TUNNEL_CONNECTIONS,
    TUNNEL_STREAMS,
    HOST_KEY,
    ENGINE_UP,
    ENGINE_IN_FLIGHT,
    ENGINE_RUNNING,
    ENGINE_WAITING,
    ENGINE_CAPACITY,
    ENGINE_CACHE,
)
GPU_FAMILIES: Final = (
    GPU_UTILIZATION,
    GPU_TEMPERATURE,
    GPU_MEMORY_USED,
    GPU_MEMORY_TOTAL,
    GPU_POWER,
    GPU_POWER_LIMIT,
    GPU_SIGNS,
)
#: By chapter, in the order of a scrape.
CATALOGUE: Final = {
    "Requests": REQUEST_FAMILIES,
    "The proxy": (*PROXY_FAMILIES, *WATCH_FAMILIES),
    "vast.ai": VAST_FAMILIES,
    "Money": COST_FAMILIES,
    "Backends": (BACKENDS, STATE_CHANGES, PATH_CHANGES, *BACKEND_FAMILIES),
    "GPUs": GPU_FAMILIES,
}

"""Which paths of an engine are not for clients: those that leak it, change it or end other people's work.

A client may write one path in many ways, and what stands between us and the engine may read it in one more.
So every reading counts: as it is, with each level of percent-encoding undone, with and without `;parameters`,
dot segments and doubled slashes, in any case. If one of them is denied, the path is.

The routes are those of SGLang 0.5 (`http_server.py` and its gateway), vLLM 0.11 to 0.2x (`entrypoints/serve`,
most only with VLLM_SERVER_DEV_MODE), llama.cpp (`tools/server/server.cpp`), Ollama (`server/routes.go`),
`transformers serve` 5.23, TabbyAPI and text-generation-webui, as of 2026-08. text-generation-inference has
none.
"""

import re
from collections.abc import Collection
from functools import lru_cache

#: Exact paths; a trailing `*` stands for any rest. One reason for each group.
DENIED: tuple[str, ...] = (
    # They answer with launch arguments, API keys among them (SGLang), or with the environment (vLLM).
    "/server_info",
    "/get_server_info",
    "/get_server_args",
    "/get_internal_state",
    "/props",  # llama.cpp: paths and template; POST changes defaults for everybody
    "/get_remote_instance_transfer_engine_info",
    "/remote_instance_transfer_engine_info",
    # They show other clients' prompts or answers.
    "/slots*",  # llama.cpp: running prompts; POST saves to and restores from files
    "/v1/stream",  # llama.cpp: replays or ends a stream of anybody
    "/v1/streams*",
    "/dump_*",
    "/dumper*",
    "/get_weights_by_name",
    "/metrics",  # what all of them ask for together; ours is asked for before anybody comes here
    # They end or hold up everybody's requests.
    "/abort_request*",
    "/pause",
    "/resume",
    "/pause_generation",
    "/continue_generation",
    "/slow_down",
    "/sleep",
    "/wake_up",
    "/wakeup",
    "/shutdown",
    "/terminate",
    "/kill",
    "/reset",  # transformers serve: unloads every model
    # They throw away caches that running traffic is fast because of.
    "/flush_cache",
    "/clear_hicache_storage_backend",
    "/hicache*",
    "/reset_prefix_cache",
    "/reset_mm_cache",
    "/reset_encoder_cache",
    # They replace weights, adapters or models.
    "/update_weight*",
    "/init_weight*",
    "/destroy_weights*",
    "/send_weights*",
    "/post_process_weights*",
    "/start_weight_update",
    "/start_draft_weight_update",
    "/finish_weight_update",
    "/weight_checker",
    "/weights_checker",
    "/release_memory*",
    "/resume_memory*",
    "/load_lora_adapter*",
    "/unload_lora_adapter*",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/lora-adapters",
    "/load_model",
    "/models/*",  # llama.cpp as a router: load, unload, download
    "/v1/model/*",
    "/v1/lora/*",
    "/v1/lora",
    "/v1/template/*",
    "/v1/sampling/*",
    "/v1/download",
    "/v1/internal/*",
    "/add_external_corpus",
    "/remove_external_corpus",
    # They change how the engine runs, or run code in it.
    "/set_internal_state",
    "/set_trace_level",
    "/configure_logging",
    "/collective_rpc",
    "/scale_elastic_ep",
    "/fault_tolerance*",
    "/freeze_gc",
    "/start_profile",
    "/stop_profile",
    "/start_expert_distribution_record",
    "/stop_expert_distribution_record",
    "/distserve/*",
    "/workers*",  # SGLang's gateway: its list of backends
    "/add_worker",
    "/remove_worker",
    "/tools",  # llama.cpp: reads files and runs commands
    "/cors-proxy",  # llama.cpp: fetches any address from inside the instance
    # Ollama: models on disk, and the account it is signed in to.
    "/api/pull",
    "/api/push",
    "/api/create",
    "/api/copy",
    "/api/delete",
    "/api/blobs*",
    "/api/me",
    "/api/signout",
    "/api/user*",
    "/api/experimental*",
)

#: Harmless to read, harmful otherwise: llama.cpp as a router adds and deletes models here.
DENIED_UNLESS_READ: frozenset[str] = frozenset({"/models"})

#: What repeats a request to who sent it (RFC 9110 §9.3.8), and with it the token that we send an engine.
_ECHOES = frozenset({"TRACE", "TRACK"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Questions to a model: most of the traffic, known to be fine without a look at any rule.
INFERENCE = frozenset(
    {
        b"/v1/chat/completions",
        b"/v1/completions",
        b"/v1/embeddings",
        b"/v1/responses",
        b"/v1/messages",
        b"/v1/rerank",
        b"/v1/score",
        b"/generate",
        b"/api/chat",
        b"/api/generate",
    }
)
_MAX_DECODINGS = 4  # nobody needs two; a path that still changes after four is hiding something
_CACHED_PATH_BYTES = 256
_HEX = re.compile(rb"%([0-9a-fA-F]{2})")
_PARAMETERS = re.compile(r";[^/]*")
_ORIGIN = re.compile(r"^[a-z][a-z0-9+.-]*://[^/]*", re.IGNORECASE)
_UNDECODABLE = "/%"

_EXACT = frozenset(rule for rule in DENIED if not rule.endswith("*"))
_PREFIXES = tuple(rule[:-1] for rule in DENIED if rule.endswith("*"))


def is_denied(raw_path: bytes, allow: Collection[str] = (), *, method: str | None = None) -> bool:
    """Is this a path that clients may not ask an engine for?

    `raw_path` is the request target as it came, percent-encoded; a query is ignored. `allow` (the setting
    server.allow_paths) names exceptions in the same form as `DENIED`. Without `method` the worst is assumed. TRACE goes
    nowhere.
    """
    if method is not None and method.upper() in _ECHOES:
        return True
    if raw_path in INFERENCE:
        return False
    is_read = method is not None and method.upper() in _READS
    look = _denied_readings if len(raw_path) <= _CACHED_PATH_BYTES else _denied_readings.__wrapped__
    denied = look(raw_path, is_read)
    return bool(denied) and not all(_is_allowed(reading, allow) for reading in denied)


@lru_cache(maxsize=4096)
def _denied_readings(raw_path: bytes, is_read: bool) -> tuple[str, ...]:
    """The readings of the path that a rule denies; empty for nearly every path."""
    return tuple(sorted(reading for reading in readings(raw_path) if _matches(reading, is_read)))


def readings(raw_path: bytes) -> frozenset[str]:
    """Every way in which some server may understand the path, in lower case and without a trailing slash."""
    found: set[str] = set()
    path = raw_path.partition(b"?")[0].partition(b"#")[0]
    for _ in range(_MAX_DECODINGS + 1):
        text = _ORIGIN.sub("", path.decode("latin-1").lower().replace("\\", "/"))
        for each in (text, _PARAMETERS.sub("", text), re.split(r"[?#]", text)[0]):
            # blanks and control characters are dropped by some servers
            bare = re.sub(r"[\x00-\x20\x7f]+", "", each)
            squeezed = "/" + re.sub(r"/+", "/", bare).strip("/")
            found |= {squeezed, _resolve(bare), _resolve(squeezed)}
        decoded = _HEX.sub(lambda match: bytes([int(match[1], 16)]), path)
        if decoded == path:
            return frozenset(found)
        path = decoded
    return frozenset(found | {_UNDECODABLE})


def _resolve(path: str) -> str:
    """The path with dot segments and empty segments taken out, never above the root."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept)


def _matches(reading: str, is_read: bool) -> bool:
    if reading in _EXACT or reading.startswith(_PREFIXES) or reading == _UNDECODABLE:
        return True
    return reading in DENIED_UNLESS_READ and not is_read


def _is_allowed(reading: str, allow: Collection[str]) -> bool:
    for rule in allow:
        wanted = rule.lower().rstrip("/")
        if reading.startswith(wanted[:-1]) if wanted.endswith("*") else reading == wanted:
            return reading != _UNDECODABLE
    return False

"""What is fuzzed: plain functions of bytes, each with what must hold for any bytes. The refusals that they document are
the only exceptions that may come out of what they call.

The first byte of what a target is given chooses how the rest is cut into pieces, where pieces must not matter.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.corpus.requests import REQUESTS
from tests.corpus.responses import RESPONSES
from vastproxy.api.access import json_word, text_word
from vastproxy.api.gate import Gate
from vastproxy.api.http.request import BadRequest, RequestReader
from vastproxy.services.access.onemodel import names_one_model
from vastproxy.services.access.records import UnreadableKeys, load_book
from vastproxy.services.backends import engine_kinds, load_formats, portal
from vastproxy.services.backends.discovery_plan import gateway_doors
from vastproxy.services.backends.fetch import ProbeResponse
from vastproxy.services.backends.gpu_amd import read_amd
from vastproxy.services.backends.gpu_csv import read_nvidia
from vastproxy.services.backends.gpus import Frames
from vastproxy.services.backends.load_metrics import read_samples
from vastproxy.services.backends.pages import page_of
from vastproxy.services.backends.rids import carry
from vastproxy.services.errors import BackendProtocolError
from vastproxy.services.metrics.usage import usage_of
from vastproxy.services.routing.hints import Hints
from vastproxy.services.routing.paths import is_denied, readings
from vastproxy.services.routing.peek import Peek, peek
from vastproxy.services.tunnels.known_hosts import parse_known_hosts
from vastproxy.services.tunnels.pins import UnreadablePins, load_pins
from vastproxy.services.tunnels.publickey import parse_blob, parse_line, unusable
from vastproxy.services.upstream.response import ResponseReader
from vastproxy.settings.model import ServerSettings
from vastproxy.vastai.handlers.webhooks import WebhookRefused, read_notice, read_report

#: Rows of a GPU program, bytes of one run of it.
_FRAME_BYTES = 1 << 16
_GATE = Gate(ServerSettings())
_HINTS = Hints(b"0" * 16)
_FORM = b"multipart/form-data; boundary=b"


@dataclass(frozen=True, slots=True)
class Target:
    """`run` raises for bytes that break what is promised; `seeds` are bytes to begin with."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def pieces_of(data: bytes) -> Iterator[bytes]:
    """What stands behind the first byte, in pieces as long as that says."""
    size = (data[0] if data else 0) + 1
    return (data[at : at + size] for at in range(1, len(data), size))


# ── HTTP ───────────────────────────────────────────────────────────────────────────────────────


def _requests(pieces: Iterable[bytes]) -> tuple[list[Any], bool]:
    """The requests in these bytes with their bodies, and whether the rest is refused; of two reasons for that either
    may be seen first."""
    reader, found, body = RequestReader(max_head_bytes=2_048, max_headers=20), [], b""
    try:
        for piece in pieces:
            data = piece
            while True:
                body += reader.feed(data)
                request = reader.request
                if not reader.complete or request is None:
                    break
                found.append((request.method, request.target, tuple(request.headers), request.host, body))
                body = b""
                if not (data := reader.next()):
                    break
    except BadRequest:
        return found, True
    return found, False


def request(data: bytes) -> None:
    """Requests are the same however they are cut. None smuggles another one past us."""
    whole, cut = _requests([data[1:]]), _requests(pieces_of(data))
    assert whole == cut
    for method, target, headers, host, _ in whole[0]:
        assert method.isascii()
        assert not any(byte in target for byte in b"\r\n\0 ")
        assert not any(byte in value for _, value in headers for byte in b"\r\n\0")
        _GATE.refusal_for(method, [*headers, (b"host", host)], needs_key=False)


def _response(pieces: Iterable[bytes]) -> tuple[Any, ...] | None:
    reader, body = ResponseReader(), b""
    reader.begin(head_only=False)
    try:
        for piece in pieces:
            body += reader.feed(piece)
    except BackendProtocolError:
        return None
    head = reader.head
    lines = b"" if head is None else head.lines
    return (None if head is None else head.status), lines, tuple(reader.interim), body, reader.phase


def response(data: bytes) -> None:
    """An answer is the same however it is cut, and holds no header of another one."""
    whole, cut = _response([data[1:]]), _response(pieces_of(data))
    assert whole == cut
    if whole is not None:
        assert b"\n" not in whole[1].replace(b"\r\n", b"")
        assert b"\r\n\r\n" not in whole[1]


def path(data: bytes) -> None:
    """A path has one verdict, in any method, and its readings are read no further."""
    assert is_denied(data) or not is_denied(data, method="GET")
    for reading in readings(data):
        assert isinstance(reading, str)


# ── what a request says ────────────────────────────────────────────────────────────────────────


def body(data: bytes) -> None:
    """The model is that of the whole body, whoever reads it."""
    kind = _FORM if data[:1] > b"\x7f" else b"application/json"
    peek(data[1:], _HINTS, kind)
    peek(data[1:], _HINTS, kind, parsed_bytes=0, head_bytes=32, tail_bytes=32)
    reading = Peek(_HINTS, kind)
    for piece in pieces_of(data):
        reading.feed(piece)
    assert reading.asked is not None
    for target in (b"/generate", b"/v1/chat/completions"):
        carried = carry(target, data[1:], "r" * 32)
        assert carried is None or len(carried.body) >= len(data) - 1


def one_model(data: bytes) -> None:
    """Who may ask for certain models only is let through with what every engine reads as the one that we have read,
    also one that stops behind the first value (Go) and does not tell upper from lower case."""
    if not names_one_model(data, ()):
        return
    try:
        said, _ = json.JSONDecoder(object_pairs_hook=tuple).raw_decode(data.decode().lstrip())
    except (ValueError, RecursionError):
        return
    asked = peek(data, _HINTS).model
    if asked is not None:
        assert isinstance(said, tuple)
        found = [value for name, value in said if name.lower() == "model"]
        assert found == [asked], found


def usage(data: bytes) -> None:
    """Numbers of tokens are numbers."""
    for count in usage_of(data, data[::-1]):
        assert count is None or count >= 0


def log_word(data: bytes) -> None:
    """What others chose is one word in a line, and one string in JSON."""
    word = text_word(data)
    assert not any(byte in word for byte in b" \n\r\t\x1b\x7f")
    assert isinstance(json.loads(b'"%b"' % json_word(data)), str)
    assert json_word(data).isascii() or len(data) > 1_024


# ── what a rented machine says ─────────────────────────────────────────────────────────────────


def engine_answer(data: bytes) -> None:
    """Whatever it answers to our questions is read, and what is kept is bounded."""
    for status in (200, 503):
        answer = ProbeResponse(status, {"content-type": "application/json"}, data)
        for sign in engine_kinds.SIGNS:
            engine_kinds.read_sign(sign, answer)
        models = engine_kinds.read_models(answer)
        assert models is None or all(name.isprintable() for name in models)
        assert models is None or len(models) <= engine_kinds.MAX_MODELS
        engine_kinds.read_owner(answer)
        engine_kinds.is_llamacpp_loading(answer)
        engine_kinds.describes_openai_api(answer)
        page_of(answer)
        portal.parse_endpoints(answer)
        portal.parse_services(answer)
        for read in (
            load_formats.sglang_loads,
            load_formats.sglang_get_load,
            load_formats.sglang_metrics,
            load_formats.vllm_metrics,
            load_formats.llamacpp_slots,
            load_formats.llamacpp_metrics,
            load_formats.ollama_ps,
            load_formats.tgi_metrics,
        ):
            read(answer, 0.0)


def samples(data: bytes) -> None:
    """Metrics of engines."""
    read_samples(data, ("vllm:num_requests_running", "a"))


def gpus(data: bytes) -> None:
    """What nvidia-smi, amd-smi and rocm-smi print, and what stands in its way."""
    text = data.decode("utf-8", "replace")
    for status in (0, None):
        read_nvidia(text, status)
        read_amd(text, status)
    frames = Frames(_FRAME_BYTES)
    for line in text.split("\n"):
        frames.feed(line)
    gateway_doors(text)


# ── what stands in files, and what is sent to us ───────────────────────────────────────────────


def files(data: bytes) -> None:
    """Pins, known hosts, keys: read, or refused in one line."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(UnreadablePins):
        load_pins(text)
    with contextlib.suppress(UnreadableKeys):
        load_book(data)
    with contextlib.suppress(ValueError):
        parse_known_hosts(text)
    with contextlib.suppress(ValueError):
        unusable(parse_blob(data))
    with contextlib.suppress(ValueError):
        parse_line(text)


def event(data: bytes) -> None:
    """Webhooks, once their signature is right."""
    for read in (read_notice, read_report):
        with contextlib.suppress(WebhookRefused):
            assert len(read(data).slug) <= 200


_REQUESTS = tuple(b"\x05" + case.raw for cases in REQUESTS.values() for case in cases)
_RESPONSES = tuple(b"\x05" + case.raw for cases in RESPONSES.values() for case in cases)
_BODY = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}], "rid": null, "user": "u"}'
_FORM_BODY = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'

#: By name, which is what `python -m fuzz` takes.
TARGETS: dict[str, Target] = {
    "request": Target(request, _REQUESTS),
    "response": Target(response, _RESPONSES),
    "path": Target(path, (b"/v1/models", b"/%66lush_cache", b"/v1/..;/abort_request?x", b"//server_info")),
    "body": Target(body, (b"\x07" + _BODY, b"\x87" + _FORM_BODY, b"\x01[[[")),
    "one-model": Target(
        one_model,
        (
            b'{"model": "m"}',
            b'{"m\\u006fdel": "m", "Model": 1}',
            b'{"a": {"model": 1}, "model": "m"} {}',
            _BODY,
        ),
    ),
    "usage": Target(usage, (b'"usage":{"prompt_tokens":3,"completion_tokens":4}',)),
    "log-word": Target(log_word, (b"/v1/x", b"\x1b[31m\r\n", b"\xff\\")),
    "engine-answer": Target(
        engine_answer,
        (
            b'{"data": [{"id": "m", "owned_by": "vllm", "aliases": ["n"]}]}',
            b'{"model_path": "p", "is_generation": true}',
            b"<!doctype html><title>x</title>",
            b'[{"internal_port": 1, "external_port": 2, "name": "API"}]',
        ),
    ),
    "samples": Target(samples, (b'vllm:num_requests_running{a="b\\"c"} 1.5e3\n# HELP a b\n',)),
    "gpus": Target(
        gpus, (b"0, NVIDIA GeForce RTX 4090, 52, 3 %, 24564 MiB\n", b'{"gpu_data": [{"gpu": 0}]}')
    ),
    "files": Target(
        files,
        (
            b'{"version": 1, "pins": []}',
            b'{"version": 1, "keys": []}',
            b"|1|AAAA|AAAA ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILtOrFUPp6k0bymNbQa",
        ),
    ),
    "event": Target(event, (b'{"notif_type": "outbid", "instance_id": 7, "message": "instance 7"}',)),
}

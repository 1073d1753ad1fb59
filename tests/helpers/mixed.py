"""Engines in memory that serve different things: what a `Scene` needs so that it matters what a request asks for."""

import json
from collections.abc import Mapping
from typing import Any

from tests.helpers.builders import make_engine
from tests.helpers.exchanging import PORT, Scene, WireStream
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.http1.chunked import ChunkedReader

CHAT = b"/v1/chat/completions"


def serves(scene: Scene, number: int, *models: str, kind: EngineKind = EngineKind.VLLM) -> None:
    """From now on another engine runs in this backend."""
    backend = scene.backends[number - 1]
    backend.engine = make_engine(kind, PORT, models, token=f"token-{number}", instance_id=number)
    backend.engines = (backend.engine,)
    scene.fleet.dispatcher.targets.refresh(backend, serving=True)


def unavailable(scene: Scene, number: int) -> None:
    """It may be given no requests."""
    scene.fleet.dispatcher.targets.refresh(scene.backends[number - 1], serving=False)


def available(scene: Scene, number: int) -> None:
    """A probe has found it well."""
    scene.fleet.dispatcher.targets.refresh(scene.backends[number - 1], serving=True, probed=True)


def chat(model: str | None = "m", *, last: bool = False, text: str = "hello", **more: Any) -> bytes:
    """The body of a chat request. `last`: the model comes behind the messages."""
    named = {} if model is None else {"model": model}
    messages = {"messages": [{"role": "user", "content": text}]}
    return json.dumps({**messages, **more, **named} if last else {**named, **messages, **more}).encode()


def head_of(stream: WireStream) -> Mapping[bytes, bytes]:
    """The header fields of the last request that was written there."""
    head, _, _ = _last(stream).partition(b"\r\n\r\n")
    fields = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
    assert len({name.lower() for name, _, _ in fields}) == len(fields), "a field twice"
    return {name.lower(): value for name, _, value in fields}


def body_of(stream: WireStream) -> bytes:
    """The body of the last request that was written there, which has come whole and ends where it says."""
    fields, (_, _, rest) = head_of(stream), _last(stream).partition(b"\r\n\r\n")
    if b"transfer-encoding" in fields:
        assert b"content-length" not in fields
        reader = ChunkedReader()
        body = reader.feed(rest)
        assert reader.done
        assert reader.rest == b""
        return body
    assert len(rest) == int(fields.get(b"content-length", b"0"))
    return rest


def asked_at(stream: WireStream) -> Any:
    """That body, read."""
    return json.loads(body_of(stream))


def _last(stream: WireStream) -> bytes:
    at = max(stream.written.rfind(verb + b" /") for verb in (b"POST", b"GET"))
    assert at >= 0, "nothing was asked there"
    return stream.written[at:]

"""Plays a case of the corpus against a proxy, cut at any byte, and says what came of it."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.corpus.cases import OF_THE_PROXY, RequestCase, ResponseCase, Seen
from tests.helpers.fronts import Front
from tests.helpers.lockstep import Connection, Lockstep
from tests.helpers.recording import HELD, SENTINEL, SENTINEL_TARGET, RecordingEngine
from tests.helpers.uv import LOOPS
from tests.helpers.wire import Answer, Message, NotStrict, read_answers, shown

#: Connections at the same time: each costs four descriptors, and the usual limit is 1024.
_WAVE = 128

#: Messages longer than this are cut behind the first and last so many bytes, and at as many places between.
_LONG = 700
_EDGE = 50

#: How long requests may take to reach the engine.
_LIMIT_S = 30.0
#: However slow the machine is: a proxy that has answered so many later requests has had its turn.
_PATIENCE_ROUNDS = 10
#: Pause between two looks at connections that take their time.
_LOOK_EVERY_S = 0.002

_UNIQUE = re.compile(rb"(?i)(x-request-id|date|etag|last-modified): [^\r\n]*")
_LAST_REQUEST = f"GET {SENTINEL_TARGET} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one client saw. `end` of its connection: "kept", when a further request on it was answered, "closed",
    "reset", or "hangs". `rest`: bytes that belong to no answer."""

    answers: tuple[Answer, ...]
    end: str
    rest: bytes

    def __str__(self) -> str:
        answers = ", ".join(
            f"{'+'.join(map(str, (*a.interim, a.status)))} {shown(a.body, 80)}{'' if a.complete else ' BROKEN'}"
            for a in self.answers
        )
        return f"[{answers}] {self.end}" + (f" and then {shown(self.rest, 200)}" if self.rest else "")


@dataclass(frozen=True, slots=True)
class Played:
    """A case at several cuts: each outcome with where it was cut, and what the engine got over all of them."""

    outcomes: tuple[tuple[int, Outcome], ...]
    seen: Counter[Seen]
    violations: tuple[str, ...]


def every_cut(raw: bytes) -> list[int]:
    """Where to cut: behind every byte; the last is no cut at all. Of messages too long for that the first and last
    bytes, and some between."""
    size = len(raw)
    if size <= _LONG:
        return list(range(1, size + 1))
    between = range(_EDGE, size - _EDGE, (size - 2 * _EDGE) // _EDGE + 1)
    return sorted({*range(1, _EDGE), *between, *range(size - _EDGE, size + 1)})


def cuts_on_this_loop(raw: bytes) -> list[int]:
    """`every_cut` on the loop that `vastproxy serve` runs on. On the other one, where only the transport differs, every
    third, and none."""
    cuts = every_cut(raw)
    served = list(LOOPS)[-1]
    if type(asyncio.get_running_loop()).__module__.startswith(served):
        return cuts
    return sorted({*cuts[::3], cuts[-1]})


def as_seen(message: Message) -> Seen:
    headers = tuple(
        (name.lower(), value) for name, value in message.headers if name.lower() not in OF_THE_PROXY
    )
    return Seen(message.method, message.target, message.body, headers)


async def play_request(case: RequestCase, front: Front, cuts: Sequence[int]) -> Played:
    """Send the case once for each cut: the bytes before it, a pause until they were read, the rest."""
    engine = front.engine
    engine.forget()
    outcomes: list[tuple[int, Outcome]] = []
    for begin in range(0, len(cuts), _WAVE):
        wave = cuts[begin : begin + _WAVE]
        outcomes += zip(wave, await _send(case, front, wave), strict=True)
    await front.step.settle()
    return Played(tuple(outcomes), Counter(map(as_seen, engine.seen)), tuple(engine.violations))


async def _send(case: RequestCase, front: Front, cuts: Sequence[int]) -> list[Outcome]:
    step = front.step
    clients = [Connection(front.port) for _ in cuts]
    try:
        await step.welcome()
        for client, cut in zip(clients, cuts, strict=True):
            client.send(case.raw[:cut])
        await step.settle()
        for client, cut in zip(clients, cuts, strict=True):
            client.send(case.raw[cut:])
            if case.fin:
                client.finish()
        await step.settle()
        await _ask_further(clients, front, ask=not case.fin)
        return [_outcome(client, (*case.methods, "GET")) for client in clients]
    finally:
        for client in clients:
            client.close()


async def _ask_further(clients: Iterable[Connection], front: Front, *, ask: bool = True) -> None:
    """Wait for each connection's end, or for the answer to one more request."""
    for client in clients:
        client.pump()
        if ask and not client.ended:
            client.send(_LAST_REQUEST)
    await front.step.settle(_PATIENCE_ROUNDS)
    # Looks are counted, and the proxy has its turn before each: the time in which nobody runs is nobody's silence.
    for _ in range(max(1, round(front.patience_s / _LOOK_EVERY_S))):
        for client in clients:
            client.pump()
        if all(client.ended or client.data.endswith(SENTINEL) for client in clients):
            return
        await asyncio.sleep(_LOOK_EVERY_S)
        await front.step.settle(1)
    for client in clients:
        client.pump()


def _outcome(client: Connection, methods: tuple[str, ...]) -> Outcome:
    data = _UNIQUE.sub(rb"\1: u", client.data)
    end = "reset" if client.reset else "closed" if client.ended else "hangs"
    try:
        answers, rest = read_answers(data, methods, closed=client.ended and not client.reset)
    except NotStrict:
        return Outcome((), end, data)
    if answers and answers[-1].body == SENTINEL and answers[-1].complete and not rest:
        return Outcome(answers[:-1], "kept", rest)
    return Outcome(answers, end, rest)


# ── answers of engines ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Answered:
    """A response case at several cuts. `reused`: for each cut, whether the proxy kept its connection to the engine."""

    outcomes: tuple[tuple[int, Outcome], ...]
    reused: tuple[bool, ...]
    violations: tuple[str, ...]


async def play_response(case: ResponseCase, front: Front, cuts: Sequence[int]) -> Answered:
    """Ask once for each cut; the engine sends the bytes before it, waits until they were read, and sends the rest."""
    engine = front.engine
    engine.forget()
    outcomes: list[tuple[int, Outcome]] = []
    reused: list[bool] = []
    for begin in range(0, len(cuts), _WAVE):
        wave = cuts[begin : begin + _WAVE]
        found, kept = await _answer(case, front, wave)
        outcomes += zip(wave, found, strict=True)
        reused += kept
    return Answered(tuple(outcomes), tuple(reused), tuple(engine.violations))


async def _answer(case: ResponseCase, front: Front, cuts: Sequence[int]) -> tuple[list[Outcome], list[bool]]:
    engine, step = front.engine, front.step
    clients = {f"{HELD}{cut}": Connection(front.port) for cut in cuts}
    try:
        for target, client in clients.items():
            client.send(_request(case, target))
        await _until_held(engine, set(clients), step)
        connections = [engine.held.pop(target) for target in clients]
        for connection, cut in zip(connections, cuts, strict=True):
            connection.write(case.raw[:cut])
        await step.settle()
        for connection, cut in zip(connections, cuts, strict=True):
            connection.write(case.raw[cut:])
            if case.close:
                connection.close()
        await step.settle()
        await _ask_further(clients.values(), front)
        await step.settle()
        kept = [not connection.ended for connection in connections]
        return [_outcome(client, (case.method, "GET")) for client in clients.values()], kept
    finally:
        for client in clients.values():
            client.close()


def _request(case: ResponseCase, target: str) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in case.request)
    return f"{case.method} {target} HTTP/{case.version}\r\n{fields}\r\n".encode("latin-1")


async def _until_held(engine: RecordingEngine, targets: set[str], step: Lockstep) -> None:
    async with asyncio.timeout(_LIMIT_S):
        while not targets <= engine.held.keys():
            await step.settle(1)

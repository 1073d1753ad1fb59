"""What a request asks for is what `json.loads` would have said, at a fraction of the cost."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.services.routing.json_texts import cut, damaged, loaded, objects
from vastproxy.services.routing.asked import NOTHING, Asked
from vastproxy.services.routing.form import MAX_PARTS
from vastproxy.services.routing.hints import Hints
from vastproxy.services.routing.peek import Peek, peek

HINTS = Hints(b"salt")
PLACES = st.lists(st.integers(0, 400), max_size=8)
TEXT = 'The quick brown fox says "hi"\n' * 400
MESSAGES = [{"role": "system", "content": TEXT}, {"role": "user", "content": 'the "model":"no" of it'}]


def both_ends(body: bytes) -> Asked:
    """As a long body is read, though it is short."""
    return peek(body, HINTS, parsed_bytes=0, head_bytes=20, tail_bytes=40)


def in_pieces(body: bytes, places: list[int], content_type: bytes = b"") -> Asked:
    reading = Peek(HINTS, content_type)
    for piece in cut(body, places):
        reading.feed(piece)
    return reading.asked


def model_of(said: dict[str, Any]) -> str | None:
    model = said.get("model")
    return model if isinstance(model, str) else None


def stream_of(said: dict[str, Any]) -> bool | None:
    stream = said.get("stream")
    return stream if isinstance(stream, bool) else None


@given(objects(), PLACES)
def test_model_and_stream_are_those_that_python_reads(body: bytes, places: list[int]) -> None:
    said = loaded(body)
    assert said is not None
    for asked in (peek(body, HINTS), in_pieces(body, places)):
        assert asked.readable
        assert (asked.model, asked.stream) == (model_of(said), stream_of(said))


def is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(objects())
@example(b'{"messages":[' + b"1," * 50 + b'2],"x":{"model":"a"},"model":"b"}')
@example(b'{"model":"a","messages":[' + b"1," * 50 + b'2],"x":{"model":"b","y":1}}')
@example(b'{"model":"a","messages":[' + b"1," * 50 + b'2],"model":"b","x":[' + b"1," * 50 + b"2]}")
@example(b'{"model":"a","model":1,"messages":[' + b"1," * 50 + b"2]}")
@example(b'{"messages":[' + b"1," * 50 + b'2],"x\\"model":"b"}')
@example(b'{"messages":["' + b'\\"model\\":\\"b\\"}' * 20 + b'"],"n":1,"model":"a"}')
def test_both_ends_of_a_body_say_the_same(body: bytes) -> None:
    """But for a second model that is written with escapes in the middle."""
    said = loaded(body)
    assert said is not None
    asked = both_ends(body)
    if body.count(b'odel"') <= 1 or b"\\u" not in body:
        assert asked.model == model_of(said)
    assert asked.readable


@given(damaged() | st.binary(max_size=40), PLACES)
@example(b'{"model":"m","messages":[]} {}', [])
@example(b'{"model":"\xff"}', [])
def test_what_is_no_json_says_nothing(body: bytes, places: list[int]) -> None:
    """But for bytes that are no UTF-8 where nothing is read: the engine will say so."""
    asked, _, pieces = peek(body, HINTS), both_ends(body), in_pieces(body, places)
    said = loaded(body)
    if said is None and not is_utf8(body):
        assert asked == NOTHING or asked.readable
    elif said is None:
        assert asked == NOTHING
    else:
        assert asked.model == pieces.model == model_of(said)


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"\\u006dodel":"m\\u0061"}', "ma"),
        (b'{"model":"a","model":"b"}', "b"),
        (b'{"model":"a","\\u006dodel":"b"}', "b"),
        (b'{"model":"a","model":null}', None),
        (b'{"model":["a"]}', None),
        (b'{"model":""}', ""),
        (b'{"x":{"model":"a"}}', None),
        (b'{"x":"\\"model\\":\\"a\\""}', None),
        (b'[{"model":"a"}]', None),
        (b'"model"', None),
        (b'\xef\xbb\xbf{"model":"a"}', "a"),
        ('{"model":"käse/模型"}'.encode(), "käse/模型"),
        (b'{"model":"a"', None),
        (b"", None),
    ],
)
def test_which_model(body: bytes, model: str | None) -> None:
    assert peek(body, HINTS).model == model
    if loaded(body) is not None:
        assert in_pieces(body, list(range(len(body)))).model == model


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("tools", [0, 30])
def test_a_long_chat_is_read_without_its_middle(first: bool, tools: int) -> None:
    """Broken in the middle it says the same: nobody looked there."""
    more = {"stream": True, "tools": [{"type": "function", "function": {"name": "f", "model": "no"}}] * tools}
    rest = {"temperature": 0.5, **(more if tools else {"stream": True}), "user": "u7"}
    ordered = {"model": "m", "messages": MESSAGES * 3, **rest}
    if not first:
        ordered = {"messages": MESSAGES * 3, "model": "m", **rest}
    body = json.dumps(ordered).encode()
    asked = peek(body, HINTS)
    assert (asked.model, asked.stream) == ("m", True)
    assert asked == in_pieces(body, [100, 4000])
    middle = len(body) // 3
    if tools:
        return
    assert peek(body[:middle] + b"\xff\n" + body[middle + 2 :], HINTS).model == "m"


@pytest.mark.parametrize(
    ("tools", "is_parsed"), [([{"name": "f"}] * 2000, False), ([{"model": "f"}] * 2000, True)]
)
def test_a_long_chat_with_many_tools_behind_it(tools: list[dict[str, str]], is_parsed: bool) -> None:
    """It is parsed only if the last "model" is not the body's own."""
    body = json.dumps({"messages": MESSAGES * 3, "model": "m", "stream": False, "tools": tools}).encode()
    asked = peek(body, HINTS)
    assert (asked.model, asked.stream) == ("m", False)
    assert asked == in_pieces(body, [5000])
    damaged_there = peek(body.replace(b"fox", b"\xff\n\xff"), HINTS)
    assert damaged_there.model == (None if is_parsed else "m")


def test_what_is_too_long_to_be_parsed_is_looked_through() -> None:
    long = ["x" * 500_000] * 5
    body = json.dumps({"documents": long, "model": "m", "messages": long}).encode()
    assert peek(body, HINTS).model == "m"
    assert peek(body, HINTS) == in_pieces(body, [1 << 20, 4 << 20])


def test_a_model_between_two_long_values_is_found() -> None:
    long = ["x" * 5000] * 8
    for key in ("model", "\\u006dodel"):
        body = b'{"messages":%b,"%b":"m","documents":%b}' % (
            json.dumps(long).encode(),
            key.encode(),
            json.dumps(long).encode(),
        )
        assert peek(body, HINTS).model == "m"


def test_the_model_is_known_before_the_rest_has_come() -> None:
    reading = Peek(HINTS)
    assert not reading.feed(b'{"stream":true,"mod')
    assert reading.asked == Asked(stream=True, readable=True)
    assert reading.feed(b'el":"m","messages":[')
    assert reading.asked.model == "m"
    assert reading.feed(b'1],"model":"n"}'), "who goes on reading sees the one that counts"
    assert reading.asked.model == "n"
    assert Peek(HINTS).feed(b"no json")
    assert Peek(HINTS).feed(b"{}")


# -- what it shares with others ----------------------------------------------------------------------


def chat(*texts: str, **more: Any) -> bytes:
    messages = [{"role": "user" if at % 2 else "system", "content": text} for at, text in enumerate(texts)]
    return json.dumps({"model": "m", "messages": messages, **more}).encode()


def shared(one: bytes, other: bytes) -> tuple[int, int, int]:
    """Blocks that they begin with alike, and how many each has."""
    a, b = peek(one, HINTS).hint.prefix, peek(other, HINTS).hint.prefix
    same = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return same, len(a), len(b)


def test_the_next_turn_shares_every_block_of_the_one_before() -> None:
    for size in (300, 3000, 15_800, 30_000):
        before, after = chat("s" * size), chat("s" * size, "q" * 500, "a" * 500)
        same, had, has = shared(before, after)
        assert same == had >= 1
        assert has >= had


def test_chats_with_one_system_prompt_share_its_blocks_only() -> None:
    same, one, other = shared(chat("s" * 1000, "a" * 2000), chat("s" * 1000, "b" * 2000))
    assert same == 4
    assert one == other > same


def test_other_settings_and_what_follows_the_prompt_do_not_count() -> None:
    same, one, other = shared(chat("s" * 3000, n=1), chat("s" * 3000, n=2, stream=True, tools=["x" * 9999]))
    assert same == one == other


def test_another_model_shares_nothing() -> None:
    body = chat("s" * 3000)
    assert shared(body, body.replace(b'"m"', b'"n"'))[0] == 0


def test_a_system_prompt_of_its_own_comes_first() -> None:
    """/v1/messages has it beside the messages, and before or behind them."""
    one = json.dumps({"model": "m", "system": "s" * 600, "messages": ["a" * 900]}).encode()
    other = json.dumps({"messages": ["b" * 900], "model": "m", "system": "s" * 600}).encode()
    assert shared(one, other)[0] == 2


@pytest.mark.parametrize("key", ["messages", "prompt", "input", "text", "inputs", "input_ids"])
def test_where_a_prompt_stands(key: str) -> None:
    value: object = list(range(300)) if key == "input_ids" else "x" * 600
    assert len(peek(json.dumps({key: value}).encode(), HINTS).hint.prefix) >= 2


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"user": "u"}, "u"),
        ({"user": 7}, "7"),
        ({"user": ""}, None),
        ({"user": None}, None),
        ({"user": ["u"]}, None),
        ({"user": "u", "metadata": {"trace": "t"}}, "u"),
        ({"user": "u", "metadata": {"user_id": "v"}}, "v"),
        ({"user": "u", "metadata": {"user_id": "v", "session_id": "s"}}, "s"),
        ({"metadata": "x"}, None),
        ({"prompt_cache_key": "p", "session_id": "q", "user": "u"}, "p"),
        ({"prompt_cache_key": None, "session_id": "q"}, "q"),
        ({"user": "u" * 2000}, None),
        ({}, None),
    ],
)
def test_what_names_a_session(more: dict[str, Any], name: str | None) -> None:
    body = json.dumps({"model": "m", **more}).encode()
    for asked in (peek(body, HINTS), in_pieces(body, [9])):
        assert asked.hint.session == (None if name is None else HINTS.session(name))


# -- forms -------------------------------------------------------------------------------------------

TYPE = b'multipart/form-data; charset=x; boundary="a b--c"'


def form(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(b"--a b--c\r\n%b\r\n\r\n%b\r\n" % (h.encode(), d) for h, d in parts) + b"--a b--c--\r\n"


FILE = ('Content-Disposition: form-data; name="file"; filename="model.mp3"\r\nContent-Type: audio/mpeg',
        bytes(range(256)) * 30 + b"\r\n--a b--\r\n")  # fmt: skip
MODEL = ('content-disposition: form-data; name="model"', "whisper-ü".encode())


@pytest.mark.parametrize("parts", [(FILE, MODEL), (MODEL, FILE)])
def test_the_model_of_a_form(parts: tuple[tuple[str, bytes], ...]) -> None:
    stream = ("Content-Type: text/plain\r\nContent-Disposition: form-data; name=stream", b"true")
    body = form(*parts, stream)
    asked = peek(body, HINTS, TYPE)
    assert (asked.model, asked.stream) == ("whisper-ü", True)
    for at in range(0, len(body), 13):
        assert in_pieces(body, [at, at + 1, at + 2], TYPE) == asked
    assert in_pieces(body, list(range(len(body))), TYPE) == asked


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (form(MODEL, ('Content-Disposition: form-data; name="model"', b"last")), "last"),
        (form(('Content-Disposition: form-data; name="model"; filename="x"', b"a")), None),
        (form(('Content-Disposition: form-data; name="x-model"', b"a")), None),
        (form(('Content-Disposition: form-data; name="model"', b"")), None),
        (form(('Content-Disposition: form-data; name="model"', b"\xff")), None),
        (form(("X: y", b"a"), MODEL), "whisper-ü"),
        (b"preamble\r\n" + form(MODEL), "whisper-ü"),
        (form(MODEL)[:-30], None),
        (b'{"model":"m"}', None),
        (b"--a b--cd\r\n", None),
        (b"--a b--c" + b" " * 9000, None),
        (b"--a b--c\r\nA: " + b"b" * 9000, None),
        (b"", None),
    ],
)
def test_strange_forms(body: bytes, model: str | None) -> None:
    assert peek(body, HINTS, TYPE).model == model
    assert in_pieces(body, list(range(len(body))), TYPE).model == model


SCRAPS = st.lists(st.sampled_from([b"\r\n", b"--a b--c", b"--", MODEL[0].encode(), b"m"])).map(b"".join)


@given(st.binary(max_size=60) | SCRAPS, PLACES)
def test_a_form_says_the_same_however_it_is_cut(body: bytes, places: list[int]) -> None:
    assert in_pieces(body, places, TYPE) == peek(body, HINTS, TYPE)


def test_a_form_of_parts_without_end_is_given_up() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    kind = b"multipart/form-data; boundary=x"
    assert peek(part * 100 + b"--x--", HINTS, kind).model == "m"
    assert not peek(part * (MAX_PARTS + 1) + b"--x--", HINTS, kind).readable


def test_what_is_not_said_to_be_a_form_is_taken_for_json() -> None:
    for content_type in (b"", b"text/plain", b"multipart/form-data", b"multipart/mixed; boundary=x"):
        assert peek(b'{"model":"m"}', HINTS, content_type).model == "m"
    assert peek(form(MODEL), HINTS).model is None

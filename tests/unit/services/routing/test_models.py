"""A request goes to the engines that serve its model, under the name that each of them knows."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vastproxy.services.routing.models import (
    MAX_NAMED,
    PORTS,
    REMEMBER_S,
    Listed,
    Models,
    Serving,
    UnknownModel,
)

A, B, C = 1 * PORTS + 8000, 2 * PORTS + 8000, 2 * PORTS + 9000
QWEN = "Qwen/Qwen3-32B"


def served(models: Models, name: str | None, now: float = 0.0) -> dict[int, str | None]:
    found = models.find(name, now)
    assert isinstance(found, Serving)
    return dict(found.wire_names)


def test_who_lists_it_serves_it() -> None:
    models = Models()
    models.put(A, [QWEN, "my-lora"], 0.0, kind="vllm")
    models.put(B, ["other"], 0.0)
    assert served(models, QWEN) == {A: QWEN}
    assert served(models, "my-lora") == {A: "my-lora"}
    assert served(models, None) == {A: None, B: None}
    assert served(models, "") == {A: None, B: None}


def test_who_lists_none_serves_any_unless_it_is_configured() -> None:
    models = Models()
    models.put(A, [QWEN], 0.0)
    models.put(B, [], 0.0)
    models.put(C, [], 0.0, configured=["tiny"])
    assert served(models, QWEN) == {A: QWEN, B: QWEN}
    assert served(models, "tiny") == {C: "tiny", B: "tiny"}
    assert served(models, "never heard of") == {B: "never heard of"}
    models.put(B, [], 0.0, configured=())
    assert isinstance(models.find("never heard of", 0.0), UnknownModel)
    models.put(A, [QWEN], 0.0, configured=["only-this"])
    assert isinstance(models.find(QWEN, REMEMBER_S + 1), UnknownModel)


def test_an_alias_stands_for_one_model_or_several() -> None:
    models = Models({"gpt-4o": QWEN, "chat": ("llama", QWEN), "self": ["self", "llama"]})
    models.put(A, [QWEN], 0.0)
    models.put(B, ["llama"], 0.0)
    assert served(models, "gpt-4o") == {A: QWEN}
    assert served(models, "chat") == {A: QWEN, B: "llama"}
    assert served(models, "self") == {B: "llama"}
    models.put(C, [], 0.0)
    assert served(models, "gpt-4o") == {A: QWEN, C: QWEN}


def test_the_default_is_for_requests_that_name_none() -> None:
    models = Models({"chat": QWEN}, default="chat")
    models.put(A, [QWEN], 0.0)
    models.put(B, ["llama"], 0.0)
    assert served(models, None) == {A: QWEN}
    assert isinstance(models.find("unknown", 0.0), UnknownModel)


@pytest.mark.parametrize(
    ("listed", "asked", "wire"),
    [
        ("llama3:latest", "llama3", "llama3"),
        ("llama3:latest", "llama3:latest", "llama3:latest"),
        ("me/llama3", "me/llama3:latest", "me/llama3:latest"),
        ("host:5000/llama3", "host:5000/llama3:latest", "host:5000/llama3:latest"),
        ("Llama3:8B", "llama3:8b", "Llama3:8B"),
        ("llama3:8b", "llama3", None),
    ],
)
def test_names_of_ollama(listed: str, asked: str, wire: str | None) -> None:
    models = Models()
    models.put(A, [listed], 0.0, kind="ollama")
    if wire is None:
        assert isinstance(models.find(asked, 0.0), UnknownModel)
    else:
        assert served(models, asked) == {A: wire}


def test_latest_means_nothing_to_others() -> None:
    models = Models()
    models.put(A, ["llama3:latest"], 0.0, kind="vllm")
    assert isinstance(models.find("llama3", 0.0), UnknownModel)


def test_any_case_of_letters_if_nobody_has_the_very_name() -> None:
    models = Models({"chat": QWEN.lower()})
    models.put(A, [QWEN], 0.0)
    models.put(B, [QWEN.upper()], 0.0)
    assert served(models, QWEN) == {A: QWEN}
    assert served(models, QWEN.lower()) == served(models, "chat") == {A: QWEN, B: QWEN.upper()}


def test_an_adapter_of_a_model_on_sglang() -> None:
    models = Models()
    models.put(A, [QWEN], 0.0, kind="sglang")
    models.put(B, [QWEN], 0.0, kind="vllm")
    assert served(models, f"{QWEN}:sql") == {A: f"{QWEN}:sql"}
    assert isinstance(models.find(f"{QWEN}:", 0.0), UnknownModel)


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    models = Models({"chat": "b"})
    models.put(A, ["b", "a"], 0.0)
    found = models.find("gpt-5", 0.0)
    assert isinstance(found, UnknownModel)
    assert not isinstance(found, Serving)
    assert (found.known, found.total) == (("a", "b", "chat"), 3)
    assert found.message == "The model 'gpt-5' is not served here. Served: a, b, chat."
    assert "chat" not in found.discreet


def test_the_error_is_bounded_whatever_was_asked_for_and_however_many_there_are() -> None:
    models = Models()
    models.put(A, [f"{'m' * 1000}{at:04}" for at in range(1000)], 0.0)
    found = models.find("x" * 100_000, 0.0)
    assert isinstance(found, UnknownModel)
    assert len(found.known) == MAX_NAMED
    assert "and 980 more" in found.message
    assert len(found.message) < 6_000
    assert len(found.discreet) < 1_000


def test_nobody_serves_anything() -> None:
    models = Models()
    models.put(A, [], 0.0, configured=())
    found = models.find("m", 0.0)
    assert isinstance(found, UnknownModel)
    assert found.message == "The model 'm' is not served here; no models are."


def test_a_model_whose_host_is_replaced_is_not_unknown() -> None:
    models = Models({"chat": QWEN})
    models.put(A, [QWEN], 0.0)
    models.put(B, ["other"], 0.0)
    models.remove(A, 100.0)
    for name in (QWEN, "chat"):
        assert served(models, name, 100.0 + REMEMBER_S) == {}
        assert isinstance(models.find(name, 101.0 + REMEMBER_S), UnknownModel)
    assert not models.find(QWEN, 100.0)
    models.remove(B, 200.0)
    assert served(models, "anything", 9e9) == {}, "nothing is known yet, or any more"


def test_what_is_remembered_is_bounded() -> None:
    models = Models()
    for at in range(3_000):
        models.put(A, [f"m{at}"], 0.0)
    assert served(models, "m2990") == {}
    assert isinstance(models.find("m10", 0.0), UnknownModel)


def test_the_list_counts_each_instance_once() -> None:
    models = Models({"chat": QWEN, "both": (QWEN, "b"), "nobody": "x"})
    models.put(A, [QWEN], 0.0)
    models.put(B, [QWEN, "b"], 0.0)
    models.put(C, [QWEN], 0.0)
    assert models.listing() == [
        Listed(QWEN, (1, 2)),
        Listed("b", (2,)),
        Listed("both", (1, 2), (QWEN, "b")),
        Listed("chat", (1, 2), (QWEN,)),
    ]
    assert len(models) == 3


NAMES = ("a", "A", "b", "a:latest", "A:8B", "a:8b", "b:x", "B", "chat")
KINDS = ("", "ollama", "sglang")


class Changes(RuleBasedStateMachine):
    """After any changes the index says what going through all engines says."""

    def __init__(self) -> None:
        super().__init__()
        self.models = Models({"chat": ("a", "B")})
        self.engines: dict[int, tuple[tuple[str, ...], str, tuple[str, ...] | None]] = {}
        self.now = 0.0

    @rule(
        key=st.integers(1, 5),
        listed=st.lists(st.sampled_from(NAMES[:-1]), max_size=3),
        kind=st.sampled_from(KINDS),
        configured=st.none() | st.lists(st.sampled_from(NAMES[:-1]), max_size=2),
    )
    def put(self, key: int, listed: list[str], kind: str, configured: list[str] | None) -> None:
        self.models.put(key, listed, self.now, kind=kind, configured=configured)
        self.engines[key] = (tuple(listed), kind, None if configured is None else tuple(configured))

    @rule(key=st.integers(1, 5))
    def remove(self, key: int) -> None:
        self.models.remove(key, self.now)
        self.engines.pop(key, None)

    @rule()
    def time_passes(self) -> None:
        self.now += REMEMBER_S + 1

    def answers(self, key: int) -> dict[str, str]:
        listed, kind, configured = self.engines[key]
        names = listed if configured is None else configured
        found = {name: name for name in names}
        if kind == "ollama":
            found |= {name.removesuffix(":latest"): name.removesuffix(":latest") for name in names}
            found |= {f"{name}:latest": f"{name}:latest" for name in names if ":" not in name}
        return found

    def brute(self, name: str) -> dict[int, str]:
        exact = {key: self.answers(key)[name] for key in self.engines if name in self.answers(key)}
        if exact:
            return exact
        alike = {
            key: own
            for key in self.engines
            for said, own in sorted(self.answers(key).items(), reverse=True)
            if said.casefold() == name.casefold()
        }
        if alike:
            return alike
        base, _, adapter = name.rpartition(":")
        return {
            key: f"{self.answers(key)[base]}:{adapter}"
            for key, (_, kind, _) in self.engines.items()
            if kind == "sglang" and base and adapter and base in self.answers(key)
        }

    @invariant()
    def the_index_agrees(self) -> None:
        any_model = {
            key for key, (listed, _, configured) in self.engines.items() if configured is None and not listed
        }
        for name in NAMES:
            meant = ("a", "B") if name == "chat" else (name,)
            expected = dict.fromkeys(any_model, meant[0])
            for model in reversed(meant):
                expected |= self.brute(model)
            found = self.models.find(name, self.now)
            if isinstance(found, UnknownModel):
                assert not expected
            else:
                assert found.wire_names == expected

    @invariant()
    def nothing_is_left_behind(self) -> None:
        if not self.engines:
            assert not self.models.listing()
            assert not self.models.find("a", self.now)


TestChanges = Changes.TestCase


def test_a_star_stands_for_every_name_that_nobody_has() -> None:
    models = Models({"*": ("real",)})
    models.put(1, ("real",), 0.0)
    models.put(2, ("other",), 0.0)
    assert models.find("gpt-4o", 0.0) == Serving({1: "real"})
    assert models.find("other", 0.0) == Serving({2: "other"})
    assert [each.id for each in models.listing()] == ["other", "real"]


def test_a_star_takes_nobody_from_a_model_whose_host_is_being_replaced() -> None:
    models = Models({"*": ("real",)})
    models.put(1, ("real",), 0.0)
    models.put(2, ("other",), 0.0)
    models.remove(2, 10.0)
    assert models.find("other", 20.0) == Serving({})
    assert models.find("other", 10_000.0) == Serving({1: "real"})

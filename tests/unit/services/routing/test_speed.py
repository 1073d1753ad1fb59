"""How fast a target is, from its answers."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.routing.candidate import candidate_key
from vastproxy.services.routing.speed import LEAST_SCORE, MIN_TOKENS, REFERENCE, Answer, SpeedBook


def answers(
    step_s: float, per_request_s: float, concurrencies: list[int], *, seed: int = 1, tokens: int = 200
) -> list[Answer]:
    """Of an engine whose step takes `step_s` and `per_request_s` more for each request, give or take a tenth."""
    rng = random.Random(seed)
    return [
        Answer((step_s + per_request_s * among) * tokens * rng.uniform(0.9, 1.1), among, tokens=tokens)
        for among in concurrencies
    ]


def book(**targets: list[Answer]) -> SpeedBook:
    found = SpeedBook()
    for name, given_answers in targets.items():
        for each in given_answers:
            found.observe(int(name[1:]), each)
    return found


def true_speed(step_s: float, per_request_s: float) -> float:
    return REFERENCE / (step_s + per_request_s * REFERENCE)


@pytest.mark.parametrize("among", [1, 4, 16, 48])
def test_the_speed_is_about_the_same_at_any_load(among: int) -> None:
    """Measured at one load alone it is within a third of what it is at the load at which targets are compared."""
    measured = book(t1=answers(0.020, 0.00045, [among] * 60)).speed(1)
    assert measured == pytest.approx(true_speed(0.020, 0.00045), rel=0.34)


@pytest.mark.parametrize(("step_s", "per_request_s"), [(0.02, 0.00045), (0.0075, 0.00012), (0.02, 0.005)])
def test_where_the_load_varies_it_is_measured(step_s: float, per_request_s: float) -> None:
    rng = random.Random(2)
    concurrencies = [rng.randint(1, 40) for _ in range(200)]
    measured = book(t1=answers(step_s, per_request_s, concurrencies)).speed(1)
    assert measured == pytest.approx(true_speed(step_s, per_request_s), rel=0.15)


def test_a_busy_fast_one_is_not_taken_for_a_slow_one() -> None:
    """Each of its requests goes as slowly as the idle slow one's; together they are many."""
    fast = answers(0.0075, 0.0003, [48] * 60)
    slow = answers(0.020, 0.00045, [1] * 60)
    measured = book(t1=fast, t2=slow)
    assert measured.speed(1) / measured.speed(2) == pytest.approx(
        true_speed(0.0075, 0.0003) / true_speed(0.020, 0.00045), rel=0.4
    )
    assert measured.speed(1) > 1.3 * measured.speed(2)


def test_a_new_one_begins_as_the_median_of_the_others() -> None:
    targets = {f"t{n}": answers(0.02 / n, 0.0005 / n, [8] * 40) for n in (1, 2, 8)}
    measured = book(**targets)
    assert SpeedBook().speed(1) == 1.0
    assert measured.speed(99) == pytest.approx(measured.speed(2), rel=0.1)
    assert not measured.is_measured(99)
    assert measured.is_measured(1)


def test_one_answer_moves_a_new_one_a_quarter_of_the_way() -> None:
    measured = book(t1=answers(0.02, 0.0005, [8] * 200), t2=answers(0.02, 0.0005, [8] * 200))
    before = measured.speed(3)
    measured.observe(3, answers(0.005, 0.000125, [8])[0])
    assert 1.4 * before < measured.speed(3) < 2.2 * before


def test_one_absurd_answer_changes_little() -> None:
    measured = book(t1=answers(0.02, 0.0005, [8] * 100))
    before = measured.speed(1)
    measured.observe(1, Answer(100_000.0, 8, tokens=200))
    assert measured.speed(1) > before * 0.7
    measured.observe(1, Answer(0.06, 8, tokens=20_000))
    assert measured.speed(1) < before * 1.2


def test_a_target_that_becomes_slower_is_soon_known_as_such() -> None:
    measured = book(t1=answers(0.01, 0.0002, [8] * 100) + answers(0.03, 0.0006, [8] * 40))
    assert measured.speed(1) == pytest.approx(true_speed(0.03, 0.0006), rel=0.2)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(1.0, 1, tokens=int(MIN_TOKENS) - 1),
        Answer(0.01, 1, tokens=500),
        Answer(float("nan"), 1, tokens=500),
        Answer(float("inf"), 1, tokens=500),
        Answer(1.0, 0, tokens=500),
        Answer(1.0, 1, answer_bytes=100),
    ],
)
def test_an_answer_that_shows_nothing_teaches_nothing(answer: Answer) -> None:
    measured = SpeedBook()
    measured.observe(1, answer)
    assert len(measured) == 0
    assert measured.speed(1) == 1.0


def test_bytes_stand_for_tokens_as_far_as_answers_have_shown() -> None:
    """One target tells its tokens, another one does not: with the same answers they are as fast."""
    measured = SpeedBook()
    for each in answers(0.02, 0.0005, [8] * 100):
        assert each.tokens is not None
        size = each.tokens * 120
        measured.observe(1, Answer(each.seconds, each.concurrency, each.tokens, answer_bytes=size))
        measured.observe(2, Answer(each.seconds, each.concurrency, answer_bytes=size))
    assert measured.speed(2) == pytest.approx(measured.speed(1), rel=0.1)


def test_bytes_of_plain_answers_are_not_those_of_events() -> None:
    measured = SpeedBook()
    for _ in range(20):
        measured.observe(1, Answer(2.0, 1, answer_bytes=230 * 200))
        measured.observe(2, Answer(2.0, 1, answer_bytes=round(4.5 * 200), streamed=False))
    assert measured.speed(1) == pytest.approx(measured.speed(2), rel=0.01)


def test_who_is_forgotten_begins_anew() -> None:
    measured = book(t1=answers(0.01, 0.0002, [8] * 50), t2=answers(0.04, 0.0008, [8] * 50))
    measured.forget(1)
    measured.forget(1)
    assert len(measured) == 1
    assert measured.speed(1) == pytest.approx(measured.speed(2), rel=0.01)


@given(
    st.lists(
        st.builds(
            Answer,
            st.floats(0, 1e6),
            st.floats(0, 5000),
            st.none() | st.integers(0, 10**7),
            st.integers(0, 10**9),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_a_speed_is_always_a_positive_number_and_the_book_bounded(given_answers: list[Answer]) -> None:
    measured = SpeedBook(max_targets=5)
    for number, each in enumerate(given_answers):
        measured.observe(number % 8, each)
        assert 0 < measured.speed(number % 8) < float("inf")
        assert len(measured) <= 5


def test_a_machine_that_is_not_relied_on_counts_as_slower() -> None:
    """By its score, but never as if it were not there; speeds as they were measured are the others' median."""
    one, other = candidate_key(1, 18000), candidate_key(2, 18000)
    found = SpeedBook()
    for key in (one, other):
        for each in answers(0.020, 0.00045, [8] * 30):
            found.observe(key, each)
    plain = found.speed(one)
    found.scores = {1: 0.5}
    assert found.speed(one) == pytest.approx(plain * 0.5)
    assert found.speed(other) == pytest.approx(plain)
    assert found.speed(candidate_key(3, 1)) == pytest.approx(plain)
    found.scores = {1: 0.0}
    assert found.speed(one) == pytest.approx(plain * LEAST_SCORE)

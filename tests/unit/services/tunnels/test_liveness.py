"""When a connection is asked for a sign of life, doubted, believed again and given up."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.tunnels.liveness import Act, Life, NoSignOfLife, Question, Rules, look, look_again

RULES = Rules(5, 2)
INTERVALS = st.floats(0.05, 60)
COUNTS = st.integers(1, 5)


def judged(
    life: Life,
    now: float,
    *,
    received: int = 0,
    is_busy: bool = False,
    retransmits: int = 0,
    question: Question = Question.ARRIVED,
) -> tuple[Life, Act]:
    return look(
        life,
        now,
        received=received,
        is_busy=is_busy,
        retransmits=retransmits,
        rules=RULES,
        question=question,
    )


@dataclass
class Course:
    """A connection that is looked at for a while, and what became of it: times of the looks, in seconds."""

    rules: Rules
    life: Life = field(default_factory=lambda: Life(0, 0.0))
    now: float = 0.0
    asked: list[float] = field(default_factory=list)
    doubted: list[float] = field(default_factory=list)
    believed: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def look(
        self,
        after_s: float,
        *,
        received: int,
        is_busy: bool = False,
        retransmits: int = 0,
        question: Question = Question.ARRIVED,
    ) -> Act:
        self.now += after_s
        was_doubted = self.life.is_doubted
        self.life, act = look(
            self.life,
            self.now,
            received=received,
            is_busy=is_busy,
            retransmits=retransmits,
            rules=self.rules,
            question=question,
        )
        if self.life.is_doubted is not was_doubted:
            (self.doubted if self.life.is_doubted else self.believed).append(self.now)
        if act is not Act.NONE:
            (self.asked if act is Act.ASK else self.ended).append(self.now)
        return act

    def until_its_end(self, gaps: Iterable[float], *, is_busy: bool) -> None:
        """Silence."""
        for gap in gaps:
            if self.look(gap, received=self.life.received, is_busy=is_busy) is Act.END:
                return
        raise AssertionError("it was never given up")


def in_periods(rules: Rules, share: Callable[[int], float] = lambda number: 1.0) -> Iterable[float]:
    return (rules.period_s * share(number) for number in range(100_000))


# ── the defaults ───────────────────────────────────────────────────────────────────────────────────


def test_an_idle_connection_that_falls_silent() -> None:
    """Asked after 5 s and again after 10, doubted 2 s after the first question, dead after 15 s."""
    course = Course(RULES)
    course.until_its_end(in_periods(RULES), is_busy=False)
    assert (course.asked, course.doubted, course.ended) == ([5, 10], [7], [15])


def test_a_busy_connection_that_falls_silent() -> None:
    """Asked after 1 s and again after 6, doubted after 3, dead after 11 s."""
    course = Course(RULES)
    course.until_its_end(in_periods(RULES), is_busy=True)
    assert (course.asked, course.doubted, course.ended) == ([1, 6], [3], [11])


def test_short_intervals_bound_everything() -> None:
    rules = Rules(0.25, 2)
    course = Course(rules)
    course.until_its_end(in_periods(rules), is_busy=True)
    assert (course.asked, course.doubted, course.ended) == ([0.25, 0.5], [0.5], [0.75])


def test_whatever_comes_is_the_answer() -> None:
    asked, act = judged(Life(7, 100), 105, received=7)
    assert (asked.owes_since, act) == (105, Act.ASK)
    assert judged(asked, 106, received=8) == (Life(8, 106, None, 105), Act.NONE)


def test_a_count_that_begins_anew_is_something_that_came() -> None:
    assert judged(Life(2**32 - 1, 100, 101, 101, is_doubted=True), 104, received=0)[0].heard_at == 104


def test_an_idle_look_changes_nothing() -> None:
    """The very same record: a look at a thousand idle connections makes nothing new."""
    life = Life(7, 100)
    assert judged(life, 104.9, received=7)[0] is life
    owing = Life(7, 100, 105, 105)
    assert judged(owing, 106.9, received=7)[0] is owing


# ── what TCP says ──────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_acknowledged_is_doubted_at_once_although_data_comes_in() -> None:
    life, act = judged(Life(7, 100), 100.5, received=8, retransmits=2)
    assert (life.is_doubted, act) == (True, Act.NONE)
    assert not judged(Life(7, 100), 100.5, received=8, retransmits=1)[0].is_doubted


def test_such_a_doubt_is_taken_back_when_all_is_acknowledged_and_something_came() -> None:
    doubted = Life(7, 100, is_doubted=True)
    assert judged(doubted, 100.5, received=8, retransmits=1)[0].is_doubted
    assert judged(doubted, 100.5, received=7, retransmits=0)[0].is_doubted
    assert not judged(doubted, 100.5, received=8, retransmits=0)[0].is_doubted


def test_a_doubted_connection_is_asked_like_a_busy_one() -> None:
    """So that the doubt can be taken back soon."""
    doubted, act = judged(Life(7, 100), 100.5, received=7, retransmits=3)
    assert (doubted.is_doubted, act) == (True, Act.NONE)
    assert judged(doubted, 101, received=7)[1] is Act.ASK


# ── on the way ─────────────────────────────────────────────────────────────────────────────────────

STANDING, MOVING, ARRIVED = Question.STANDING, Question.MOVING, Question.ARRIVED


@pytest.mark.parametrize(
    ("way", "doubted", "ended"),
    [
        ([ARRIVED], [3], [11]),
        ([STANDING], [3], [11]),
        ([STANDING, STANDING, ARRIVED], [3], [11]),
        (8 * [MOVING] + [ARRIVED], [7], [15]),
        (8 * [MOVING] + [STANDING], [7], [15]),
        (2 * [STANDING] + 2 * [MOVING] + [STANDING], [5], [13]),
        (2 * [MOVING] + [ARRIVED] + [MOVING], [4], [12]),
    ],
    ids=[
        "there",
        "stuck",
        "stuck, there",
        "moves",
        "moves, stuck",
        "stuck, moves, stuck",
        "there, others move",
    ],
)
def test_an_answer_is_owed_from_when_the_question_stopped_moving(
    way: list[Question], doubted: list[float], ended: list[float]
) -> None:
    """A busy connection, asked after 1 s. The last place of the question is where it stays."""
    course = Course(RULES)
    looks = iter(way)
    while not course.ended:
        question = next(looks, way[-1]) if course.asked else ARRIVED
        course.look(RULES.period_s, received=0, is_busy=True, question=question)
    assert (course.doubted, course.ended) == (doubted, ended)


def test_a_doubt_that_came_of_standing_still_goes_when_it_moves_again() -> None:
    """Unless TCP sends the same again and again."""
    doubted = Life(7, 100, 101, 101, is_doubted=True, has_arrived=False)
    assert not judged(doubted, 104, received=7, question=MOVING)[0].is_doubted
    assert judged(doubted, 104, received=7, question=MOVING, retransmits=1)[0].is_doubted
    assert judged(doubted, 104, received=7, question=STANDING)[0].is_doubted
    assert judged(doubted, 104, received=7, question=ARRIVED)[0].is_doubted


def test_nobody_asks_again_behind_a_question_that_moves() -> None:
    moving = Life(7, 100, 101, 101, has_arrived=False)
    assert judged(moving, 120, received=7, question=MOVING)[1] is Act.NONE
    assert judged(moving, 120, received=7, question=STANDING)[1] is Act.ASK


def test_each_silence_has_its_own_question() -> None:
    """That the last one had arrived says nothing of the next."""
    owing, _ = judged(Life(7, 100, 101, 101), 102, received=8)
    assert owing.has_arrived
    assert not judged(owing, 107, received=8)[0].has_arrived


# ── when nobody has looked ─────────────────────────────────────────────────────────────────────────


def test_after_a_pause_nobody_is_judged_and_everybody_asked() -> None:
    dying = Life(7, 100, 105, 105, is_doubted=True)
    assert judged(dying, 4_000, received=7)[1] is Act.END, "without the pause"
    fresh, act = look_again(dying, 4_000, received=7)
    assert (fresh, act) == (Life(7, 100, 4_000, 4_000, is_doubted=True, has_arrived=False), Act.ASK)
    assert judged(fresh, 4_009.9, received=7)[1] is not Act.END
    assert judged(fresh, 4_010, received=7)[1] is Act.END


def test_after_a_pause_what_came_in_it_counts() -> None:
    assert look_again(Life(7, 100, 105, 105), 4_000, received=8) == (Life(8, 4_000, None, 105), Act.NONE)


@given(interval_s=INTERVALS, count=COUNTS)
def test_the_times_are_in_order(interval_s: float, count: int) -> None:
    """A doubt fits before every death, some looks fit before every doubt, and a late look is later than most."""
    rules = Rules(interval_s, count)
    assert rules.busy_s <= rules.interval_s
    assert 2 * rules.period_s <= rules.answer_s <= rules.death_s / 2
    assert rules.late_s > 2 * rules.period_s
    assert rules.late_s >= rules.busy_s * 0.999, "or fresh questions would follow each other too fast"
    assert rules.unacknowledged_s > rules.death_s


# ── always ─────────────────────────────────────────────────────────────────────────────────────────

GAPS = st.lists(st.floats(0.01, 1), min_size=1, max_size=20)


@given(interval_s=INTERVALS, count=COUNTS, gaps=GAPS, is_busy=st.booleans())
def test_a_silent_connection_is_doubted_and_then_dead_in_bounded_time(
    interval_s: float, count: int, gaps: list[float], is_busy: bool
) -> None:
    """Whenever the looks come, as long as they come in time: two periods late at the most."""
    rules = Rules(interval_s, count)
    course = Course(rules)
    course.until_its_end(in_periods(rules, lambda number: gaps[number % len(gaps)]), is_busy=is_busy)
    patience_s = rules.busy_s if is_busy else rules.interval_s
    [doubted_at], [ended_at] = course.doubted, course.ended
    slack_s = 2 * rules.period_s * 1.001
    assert patience_s + rules.answer_s <= doubted_at * 1.001
    assert doubted_at <= patience_s + rules.answer_s + slack_s
    assert (patience_s + rules.death_s) * 0.999 <= ended_at <= patience_s + rules.death_s + slack_s
    assert doubted_at < ended_at
    assert len(course.asked) <= count + 1


@given(
    interval_s=INTERVALS,
    count=COUNTS,
    silences=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    is_busy=st.booleans(),
)
def test_a_connection_that_is_heard_in_time_is_never_doubted(
    interval_s: float, count: int, silences: list[float], is_busy: bool
) -> None:
    """Idle: at least once in each interval. Busy: at least as soon as it answers a question in time."""
    rules = Rules(interval_s, count)
    longest_s = rules.busy_s + rules.answer_s - 2 * rules.period_s if is_busy else rules.interval_s
    course = Course(rules)
    for number, share in enumerate(silences):
        until = course.now + share * longest_s
        while course.now + rules.period_s < until:
            assert course.look(rules.period_s, received=number, is_busy=is_busy) is not Act.END
        course.look(max(until - course.now, 0), received=number + 1, is_busy=is_busy)
    assert (course.doubted, course.ended) == ([], [])


WAYS = st.lists(st.sampled_from(Question), max_size=60)


def course_of(
    rules: Rules, gaps: list[float], way: list[Question], rest: Question, *, is_busy: bool
) -> Course:
    """Silence until the end, in which the question goes that way and then stays where it is."""
    course = Course(rules)
    places = iter(way)
    for gap in in_periods(rules, lambda number: gaps[number % len(gaps)]):
        question = rest if course.life.has_arrived else next(places, rest)
        if course.look(gap, received=0, is_busy=is_busy, question=question) is Act.END:
            return course
    raise AssertionError("it was never given up")


@given(interval_s=INTERVALS, count=COUNTS, gaps=GAPS, way=WAYS, is_busy=st.booleans())
def test_a_stream_that_stands_still_changes_nothing(
    interval_s: float, count: int, gaps: list[float], way: list[Question], is_busy: bool
) -> None:
    """Asked, doubted and dead at the same looks as where nobody knows what has arrived, in whatever way it does."""
    rules = Rules(interval_s, count)
    stuck = [STANDING if question is MOVING else question for question in way]
    course = course_of(rules, gaps, stuck, STANDING, is_busy=is_busy)
    known = course_of(rules, gaps, [], ARRIVED, is_busy=is_busy)
    assert (course.asked, course.doubted, course.ended) == (known.asked, known.doubted, known.ended)


@given(interval_s=INTERVALS, count=COUNTS, gaps=GAPS, is_busy=st.booleans())
def test_a_stream_that_moves_is_never_doubted(
    interval_s: float, count: int, gaps: list[float], is_busy: bool
) -> None:
    """However seldom looks come, and however long nothing else does."""
    rules = Rules(interval_s, count)
    course = Course(rules)
    for gap, _ in zip(
        in_periods(rules, lambda number: 3 * gaps[number % len(gaps)]), range(300), strict=False
    ):
        course.look(gap, received=0, is_busy=is_busy, question=MOVING)
    assert (course.doubted, course.ended, len(course.asked) <= 1) == ([], [], True)


@given(interval_s=INTERVALS, count=COUNTS, gaps=GAPS, moves=st.integers(0, 60), is_busy=st.booleans())
def test_what_arrives_after_the_question_delays_nothing(
    interval_s: float, count: int, gaps: list[float], moves: int, is_busy: bool
) -> None:
    """From its arrival on the old rules hold, counted from the last look at which it moved."""
    rules = Rules(interval_s, count)
    course = course_of(rules, gaps, [*moves * [MOVING], ARRIVED], MOVING, is_busy=is_busy)
    [doubted_at], [ended_at] = course.doubted, course.ended
    assert course.life.owes_since is not None
    slack_s = 2 * rules.period_s * 1.001
    assert rules.answer_s * 0.999 <= doubted_at - course.life.owes_since <= rules.answer_s + slack_s
    assert rules.death_s * 0.999 <= ended_at - course.life.owes_since <= rules.death_s + slack_s


LOOKS = st.lists(
    st.tuples(st.floats(0.001, 1), st.booleans(), st.booleans(), st.sampled_from([0, 0, 0, 1, 2, 7])),
    min_size=1,
    max_size=300,
)


@given(interval_s=INTERVALS, count=COUNTS, looks=LOOKS)
def test_whatever_happens(interval_s: float, count: int, looks: list[tuple[float, bool, bool, int]]) -> None:
    """Nobody is asked more often than once per second of silence, nor before the interval is over while the last
    question is open; nobody dies who was not doubted before, or of whom something was heard since the question."""
    rules = Rules(interval_s, count)
    course = Course(rules)
    received, heard_at = 0, 0.0
    for share, comes, is_busy, retransmits in looks:
        before = course.life
        received += comes
        act = course.look(share * rules.period_s, received=received, is_busy=is_busy, retransmits=retransmits)
        heard_at = course.now if comes else heard_at
        if act is Act.ASK:
            assert course.now - before.asked_at >= (rules.interval_s if before.owes_since else rules.busy_s)
            assert course.now - heard_at >= rules.busy_s
        if act is Act.END:
            assert before.is_doubted
            assert before.owes_since is not None
            assert heard_at <= before.owes_since <= course.now - rules.death_s
            return
        assert course.life.is_doubted or retransmits < 2
        if comes:
            assert course.life.is_doubted <= bool(retransmits)


@pytest.mark.parametrize(("silent_s", "text"), [(0.61, "0.6 s"), (11.04, "11 s"), (125.0, "125 s")])
def test_why_it_was_given_up(silent_s: float, text: str) -> None:
    assert str(NoSignOfLife(silent_s)) == f"no sign of life for {text} (keepalives unanswered)"

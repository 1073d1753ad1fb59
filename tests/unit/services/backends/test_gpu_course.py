"""How reading GPUs goes on after each thing that can happen."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.gpu_course import NOT_INSTALLED_REST_S, Course, End
from vastproxy.services.backends.gpus import Failure, Gpu, GpuProgram, GpuReading

RNG = random.Random(1)
GOOD = GpuReading((Gpu(0),))
REFUSAL = 'Field "fan.speed" is not a valid field to query.\n'
START = Course(GpuProgram())


def failed(failure: Failure) -> GpuReading:
    return GpuReading(error="…", failure=failure)


def test_a_good_reading_goes_on_and_forgets_troubles() -> None:
    course = Course(GpuProgram(), troubles=5).with_reading(GOOD, "")
    assert course.goes_on
    assert course.troubles == 0
    assert course.after(End.READ, 15, RNG) == (course, 15)


@pytest.mark.parametrize("failure", [Failure.NO_GPU, Failure.NO_DRIVER, Failure.LOST, Failure.MISMATCH])
def test_a_failure_that_may_pass_is_read_again_as_usual(failure: Failure) -> None:
    course = START.with_reading(failed(failure), "")
    assert course.goes_on
    assert course.after(End.READ, 15, RNG)[1] == 15


def test_a_refusal_asks_for_less_at_once() -> None:
    course = START.with_reading(failed(Failure.UNKNOWN_FIELD), REFUSAL)
    assert not course.goes_on
    assert "fan.speed" not in course.program.query.fields
    assert course.after(End.READ, 15, RNG) == (course, 0.0)
    assert course.begun().goes_on


def test_a_driver_that_refuses_even_the_minimum_is_not_asked_in_a_loop() -> None:
    course = START
    for _ in range(20):
        course = course.with_reading(failed(Failure.UNKNOWN_FIELD), 'Field "index" is not a valid field')
    assert not course.refused
    assert course.after(End.READ, 15, RNG)[1] == 15


def test_a_program_that_is_not_there_is_left_alone_for_long() -> None:
    course = START.with_reading(failed(Failure.NOT_INSTALLED), "")
    assert not course.goes_on
    assert course.after(End.READ, 15, RNG)[1] == NOT_INSTALLED_REST_S


def test_hangs_are_left_alone_for_longer_and_longer() -> None:
    """Told by the status of `timeout`, or by silence."""
    course, pauses = START, []
    for _ in range(6):
        course = course.begun().with_reading(failed(Failure.HUNG), "")
        assert not course.goes_on
        pauses.append(course.after(End.READ, 15, RNG)[1])
    assert pauses[0] >= 60
    assert pauses[-1] >= 600
    course, pause_s = START.after(End.SILENT, 15, RNG)
    assert 60 <= pause_s <= 90
    assert course.after(End.SILENT, 15, RNG)[1] >= 120
    assert course.with_reading(GOOD, "").troubles == 0


def test_without_a_session_or_a_shell_for_the_loop_it_reads_one_by_one() -> None:
    course, pause_s = START.after(End.REFUSED, 15, RNG)
    assert (course.holds, pause_s) == (False, 15)
    course, pause_s = START.after(End.ENDED, 15, RNG)
    assert (course.holds, pause_s) == (False, 0.0)


def test_a_loop_that_worked_and_ended_is_tried_again() -> None:
    course, pause_s = START.with_reading(GOOD, "").after(End.ENDED, 15, RNG)
    assert course.holds
    assert pause_s == 15


def test_refusals_of_single_commands_back_off() -> None:
    course, pauses = Course(GpuProgram(), holds=False), []
    for _ in range(8):
        course, pause_s = course.after(End.REFUSED, 15, RNG)
        pauses.append(pause_s)
    assert not course.holds
    assert pauses[0] == 15
    assert pauses[-1] >= 200


@given(
    st.lists(st.sampled_from([*End, *Failure, None]), max_size=30),
    st.floats(0.01, 1000),
    st.integers(),
)
def test_it_never_spins(happenings: list[End | Failure | None], interval_s: float, seed: int) -> None:
    """A pause shorter than the interval comes after a refused query, or once when the loop is given up."""
    rng, course, short = random.Random(seed), START, 0
    for happening in happenings:
        if isinstance(happening, End):
            before, (course, pause_s) = course, course.after(happening, interval_s, rng)
            assert pause_s >= 0
            if pause_s < interval_s and not before.refused:
                short += 1
                assert before.holds
                assert not course.holds
            course = course.begun()
        else:
            reading = GOOD if happening is None else failed(happening)
            course = course.with_reading(reading, REFUSAL if happening is Failure.UNKNOWN_FIELD else "")
    assert short <= 1

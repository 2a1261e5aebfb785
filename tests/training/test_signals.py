"""Signals: only noted within a training, obeyed at once around it."""

import contextlib
import os
import signal

import pytest

from jettag.errors import Stopped
from jettag.training.signals import stop_at_once, stop_requests

CODES = [(signal.SIGTERM, 143), (signal.SIGUSR1, 75)]


@pytest.mark.parametrize(("number", "code"), CODES)
@pytest.mark.parametrize("when", ["within", "after"])
def test_within_a_training_a_signal_is_noted_around_it_obeyed(number, code, when):
    """Noted ones are obeyed as well when the training ends without a look at them."""

    def around():
        with stop_at_once():
            with stop_requests() as request:
                assert request() is None
                if when == "within":
                    os.kill(os.getpid(), number)
                    assert request() == code
            assert when == "after"
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught:
        around()
    assert caught.value.exit_code == code
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(("number", "code"), [*CODES, (signal.SIGINT, 130)])
def test_what_a_library_swallows_is_obeyed_by_the_training(number, code):
    def train():
        with contextlib.suppress(Exception, KeyboardInterrupt):
            os.kill(os.getpid(), number)
        with stop_requests() as request:
            assert request() == code

    with pytest.raises((Stopped, KeyboardInterrupt)), stop_at_once():
        train()
    with stop_requests() as request:
        assert request() is None


def test_a_second_interrupt_does_not_wait():
    def interrupt_twice():
        with stop_requests() as request:
            os.kill(os.getpid(), signal.SIGINT)
            assert request() == 130
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()

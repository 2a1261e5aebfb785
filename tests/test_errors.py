"""One line each, the contract's exit codes, and across processes unchanged."""

import pickle

import pytest

from jettag import errors


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("UsageError", 2),
        ("RecipeError", 3),
        ("CardError", 3),
        ("DataError", 4),
        ("CheckpointError", 5),
        ("DivergenceError", 6),
        ("ResourceError", 7),
    ],
)
def test_every_error_knows_its_exit_code_and_says_what_where_and_what_to_do(name, code):
    error = getattr(errors, name)("what\nhappened", where="a file", do="do this")
    assert error.exit_code == code
    assert str(error) == "what happened in a file; do this"
    assert str(getattr(errors, name)("what")) == "what"


def test_errors_survive_a_worker_process():
    error = pickle.loads(pickle.dumps(errors.Stopped("stopped", where="x", exit_code=143)))
    assert (str(error), error.exit_code, type(error)) == ("stopped in x", 143, errors.Stopped)

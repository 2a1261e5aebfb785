"""Where a reader's own exceptions end."""

import pytest

from jettag.data.source import reading
from jettag.errors import DataError, ResourceError


@pytest.mark.parametrize(
    "problem", [OSError, ValueError, IndexError, KeyError, AssertionError, MemoryError, RecursionError]
)
def test_whatever_a_reader_raises_becomes_one_line_with_the_file(problem):
    with pytest.raises(DataError, match=r"cannot be read \(.*a\.root") as caught, reading("a.root"):
        raise problem("one\ntwo")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("problem", [KeyboardInterrupt, SystemExit])
def test_leaving_is_not_damage(problem):
    with pytest.raises(problem), reading("a.root"):
        raise problem


def test_an_error_of_ours_passes_unchanged():
    with pytest.raises(ResourceError, match=r"^mine$"), reading("a.root"):
        raise ResourceError("mine")

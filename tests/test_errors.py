"""One line each, the contract's exit codes, and across processes unchanged."""

import ast
import pickle
from pathlib import Path

import pytest
import torch

import jettag
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


def literal(node):
    """The text of an f-string, with X for what is filled in."""
    parts = getattr(node, "values", [node])
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in parts)


def test_what_is_wrong_is_said_to_be_in_one_place():
    """`error: the file is in --data in a.root`: the place follows the word "in", so what goes before has none."""
    told = []
    for path in sorted(Path(jettag.__file__).parent.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            name = isinstance(call, ast.Call) and getattr(call.func, "id", "")
            if name and hasattr(errors, name) and call.args and any(word.arg == "where" for word in call.keywords):
                told.append((f"{path.name}:{call.lineno}", literal(call.args[0])))
    assert len(told) > 100
    assert [place for place, what in told if " in " in what] == []


def test_memory_that_ran_out_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**56, dtype=torch.uint8)  # more than an address space holds
    assert errors.out_of_memory(caught.value)
    assert errors.out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert errors.out_of_memory(RuntimeError("Invalid buffer size: 19.45 GB"))  # one tensor beyond what MPS has
    assert errors.out_of_memory(MemoryError())
    assert not errors.out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))

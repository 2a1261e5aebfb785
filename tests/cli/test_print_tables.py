import io
from pathlib import Path

import pytest
from jettag_cli.tables import print_published, print_rows
from rich.console import Console

from jettag.evaluation.rows import Row

ROW = Row(
    "fine[bold]tuned", "Tbqq", "QCD", 1000, 9983, 0.9912, 0.95, 0.3, 172.4, 164.2, 181.3, 58, 0.9, 0, 2140000, 900
)


def printed(function, *arguments, width=80, **options):
    stream = io.StringIO()
    function(Console(file=stream, width=width), *arguments, **options)
    return stream.getvalue()


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_number_is_lost_at_any_width(width):
    half = Row(**{**vars(ROW), "signal_efficiency": 0.5, "background_rejection": 41.3})
    text = printed(print_rows, [ROW, half], width=width, notes=["few jets"])
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    if width >= 80:
        for piece in ("172.4", "+8.9", "−8.2", "58 pass", "0.9912", "2.14M", "900", "[bold]", "few jets", "9 983"):
            assert piece in text


@pytest.mark.parametrize("width", [16, 20, 30])
def test_a_narrow_terminal_gets_a_line_for_each_number(width):
    text = printed(print_rows, [ROW], width=width)
    words = [word.rstrip(",") for word in text.split()]
    for piece in ("AUC:", "0.9912", "172.4", "+8.9", "−8.2", "2.14M"):
        assert piece in words
    assert "AUC: 0.9912" in text.splitlines()
    published = printed(print_published, width=width)
    assert "AUC:" in published.split()
    assert max(len(line) for line in published.splitlines()) <= width


def test_a_limit_is_shown_as_one():
    limit = Row(**{**vars(ROW), "background_rejection": None, "background_rejection_high": None})
    text = printed(print_rows, [limit])
    assert "> 160" in text
    assert "84%" in text


def test_published_numbers_stand_under_their_statement():
    text = printed(print_published)
    assert "Another data set: Top Landscape" in text
    assert text.index("no comparison") < text.index("OmniLearned-L")
    assert "…" not in text


def test_library_does_not_import_the_terminal():
    folder = Path(__file__).parents[2] / "jettag" / "evaluation"
    for path in folder.glob("*.py"):
        words = path.read_text(encoding="utf-8")
        assert "import torch" not in words
        assert "rich" not in words.split('"""')[-1]

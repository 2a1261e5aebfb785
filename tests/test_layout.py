"""The house: who may import whom, how long a file may be, and that the wheel carries every room."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*ROOT.glob("jettag/**/*.py"), *ROOT.glob("cli/**/*.py")])

# errors <- config, physics <- data, simulate, models <- objectives <- training <- run <- cli; the sides as stated.
MAY_IMPORT = {
    "errors": set(),
    "config": {"errors"},
    "physics": {"errors"},
    "data": {"errors", "config", "physics"},
    "simulate": {"errors", "config", "physics", "data"},
    "models": {"errors", "config", "physics", "data"},
    "objectives": {"errors", "config", "physics", "data", "models"},
    "training": {"errors", "config", "physics", "data", "models", "objectives"},
    "evaluation": {"errors", "config", "data"},
    "weak": {"errors", "config", "data"},
    "interop": {"errors", "config", "models", "physics"},
}


def imported(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    parts = path.relative_to(ROOT).parts
    names = imported(path)
    tops = {name.split(".")[0] for name in names}
    if parts[0] == "cli":
        assert "uproot" not in tops
        return
    assert not tops & {"typer", "rich", "cli", "jettag_cli"}
    assert ("uproot" in tops) == (parts[1:] == ("data", "root.py"))
    room = parts[1].removesuffix(".py")
    if room in MAY_IMPORT:
        own = {name.split(".")[1] for name in names if name.startswith("jettag.")}
        assert own - {"__version__"} <= MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_readable_and_nothing_evaluates_text_or_unpickles(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert text.startswith('"""')
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in {"torch", "pickle"}:
                assert any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in node.keywords)


def test_the_wheel_lists_every_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {".".join(p.parent.relative_to(ROOT).parts) for p in ROOT.glob("jettag/**/__init__.py")}
    assert folders | {"jettag_cli", "jettag_recipes", "jettag_data_cards"} == set(project["packages"])
    for package, folder in project["package-dir"].items():
        assert (ROOT / folder / "__init__.py").is_file(), package

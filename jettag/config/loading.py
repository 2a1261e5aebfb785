"""Strict YAML and pydantic: no unknown key, no duplicate key, no Python object, all mistakes in one message."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from jettag.errors import RecipeError, UsageError, nearest

__all__ = ["Section", "apply_overrides", "as_typed", "dump_yaml", "read_yaml", "validate"]

LONGEST_SHOWN = 80  # characters of what was typed, in a message
LARGEST_FILE = 1_000_000  # bytes; a recipe or card is a few kB, anything larger is a wrong file or a bomb


class Section(BaseModel):
    """A part of a recipe or card: frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            problem = "aliases (*name) are not allowed"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                problem = "a key must be a plain word"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in seen:
                problem = f"key {key!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as text; the field writes learning rates this way.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path, *, error: type[RecipeError] = RecipeError) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        RecipeError: the file is missing, too large, not YAML, or not a mapping (or the ``error`` kind given).
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise error(f"expected a text of a few kB, found {path.stat().st_size} bytes", where=path)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error("no such file", where=path, do="see `jettag ls`") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"cannot be read: {problem}", where=path) from None
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = getattr(problem, "problem", None) or str(problem)
        raise error(f"not valid YAML ({what})", where=f"{path}{line}") from None
    if not isinstance(content, dict):
        raise error(f"expected keys and values, found {type(content).__name__}", where=path)
    return {str(key): value for key, value in content.items()}


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``values`` with each ``key.sub=value`` set; the value is read as YAML."""
    result: dict[str, Any] = {
        key: apply_overrides(value, ()) if isinstance(value, Mapping) else value for key, value in values.items()
    }
    for override in overrides:
        dotted, equals, text = override.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            raise UsageError(f"expected --set key.sub=value, found {override!r}")
        place = result
        for key in keys[:-1]:
            if place.get(key) is None:  # absent, or a section that is turned off
                place[key] = {}
            if not isinstance(place[key], dict):
                raise UsageError(f"--set {override}: {key} holds a value, not a section")
            place = place[key]
        try:
            place[keys[-1]] = yaml.load(text, Loader=_StrictLoader)
        except yaml.YAMLError:
            raise UsageError(f"--set {override}: the value is not valid YAML") from None
    return result


def as_typed(overrides: Sequence[str]) -> dict[str, str]:
    """Overrides by how they stand on the command line; one that is given twice counts where it comes last."""
    return {f"--set {override}": override for override in [*dict.fromkeys(reversed(overrides))][::-1]}


SectionType = TypeVar("SectionType", bound=Section)


def validate(
    schema: type[SectionType],
    values: Mapping[str, Any],
    *,
    where: object,
    error: type[RecipeError] = RecipeError,
    changes: Mapping[str, str] | None = None,
) -> SectionType:
    """``values`` as a ``schema``; every mistake is named in one line, unknown keys with the nearest known ones.

    Args:
        schema: what is wanted.
        values: as they stand in the file.
        where: the file.
        error: its kind.
        changes: overrides that are applied first, in turn, by what the person typed; a mistake is said to be in the
            one that it came with.

    Raises:
        RecipeError: naming every mistake (or the ``error`` kind given).
    """
    changes = changes or {}
    try:
        return schema.model_validate(apply_overrides(values, [*changes.values()]))
    except ValidationError as problems:
        found = problems.errors(include_url=False)
    said = [_explain(schema, problem) for problem in found]
    places = [str(where) if typed is None else _short(typed) for typed in _culprits(schema, values, changes, found)]
    count = f"{len(found)} mistakes: " if len(found) > 1 else ""
    if len(set(places)) == 1:
        raise error(count + " | ".join(said), where=places[0])
    raise error(count + " | ".join(f"{what} in {place}" for what, place in zip(said, places, strict=True)))


def _culprits(
    schema: type[Section], values: Mapping[str, Any], changes: Mapping[str, str], found: Sequence[Any]
) -> list[str | None]:
    """What was typed of the change that brought each mistake; None where it was there without any."""
    made: dict[Any, str | None] = dict.fromkeys(_mistakes(schema, values))
    for typed, override in changes.items():
        values = apply_overrides(values, [override])
        made = {mistake: made.get(mistake, typed) for mistake in _mistakes(schema, values)}
    return [made.get(_name(problem)) for problem in found]


def _mistakes(schema: type[Section], values: Mapping[str, Any]) -> list[Any]:
    try:
        schema.model_validate(dict(values))
    except ValidationError as problems:
        return [_name(problem) for problem in problems.errors(include_url=False)]
    return []


def _name(problem: Any) -> Any:
    """What is equal for the same mistake; another wrong value is another one, the rest of its section is not."""
    value = problem["input"]
    return problem["loc"], problem["msg"], None if isinstance(value, dict | list) else repr(value)


def _short(typed: str) -> str:
    return typed if len(typed) <= LONGEST_SHOWN else f"{typed[:LONGEST_SHOWN]}..."


def _explain(schema: type[BaseModel], problem: Any) -> str:
    path = [part for part in problem["loc"] if isinstance(part, str | int)]
    key = ".".join(str(part) for part in path) or "(top)"
    if problem["type"] == "extra_forbidden":
        known = _fields_at(schema, path[:-1])
        return f"{key}: unknown key, {nearest(str(path[-1]), known)}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if isinstance(problem["input"], dict):  # a rule of several keys, which it names
        return message if key == "(top)" else f"{key}: {message}"
    return f"{key}: {message}, found {str(problem['input'])[:60]!r}"


def _fields_at(schema: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that may stand at ``path``; discriminated unions and optional sections are looked through."""
    schemas: list[Any] = [schema]
    for part in path:
        following: list[Any] = []
        for candidate in schemas:
            if str(part) in candidate.model_fields:
                following += _models_in(candidate.model_fields[str(part)].annotation)
        schemas = following or schemas
    return sorted({name for candidate in schemas for name in candidate.model_fields})


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def dump_yaml(section: BaseModel, *, nulls: bool = True) -> str:
    """The section as YAML, keys in their order, every default written out; without ``nulls`` those of null are not."""
    content = section.model_dump(mode="json")
    if not nulls:
        _drop_nulls(section, content)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _drop_nulls(value: object, content: Any) -> None:
    """Take keys that are null, and null by default, out of what was dumped of ``value``, at every depth."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if content[name] is None and field.default is None:
                del content[name]
            else:
                _drop_nulls(getattr(value, name), content[name])
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            _drop_nulls(inner, content[name])

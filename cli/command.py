"""How every command reads its line: options that take several values, and usage errors in one line."""

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from .console import error_line, forget_stdout

__all__ = ["Group", "SeveralValues", "WithExample"]


class WithExample(TyperCommand):
    """The ``Example:`` of the function's docstring is printed below the options, where the eye ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        text, mark, example = (kwargs.get("help") or "").partition("Example: ")
        if mark:
            kwargs |= {"help": text.strip(), "epilog": mark + " ".join(example.split())}
        super().__init__(*args, **kwargs)


class SeveralValues(WithExample):
    """A command whose repeatable options take ``--data a.root b.root`` as well as ``--data a.root --data b.root``.

    A shell expands ``--data jets/*.root`` to the first form. Values end at the next option.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option's name before each further value, then parse as usual."""
        repeatable = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        spelled: list[str] = []
        current = ""
        needs_name = False
        for position, word in enumerate(args):
            if word == "--":
                spelled += args[position:]
                break
            if word.startswith("-") and len(word) > 1:
                name = word.partition("=")[0]
                current = name if name in repeatable else ""
                needs_name = "=" in word
            elif current:
                if needs_name:
                    spelled.append(current)
                needs_name = True
            spelled.append(word)
        return super().parse_args(ctx, spelled)


class Group(TyperGroup):
    """The command group: usage errors are one line on stderr with exit code 2, like every other error."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and leave with the exit code."""
        stdout = sys.stdout
        try:
            result = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except BrokenPipeError:
            forget_stdout()
            result = 0
        except SystemExit as leaving:
            # Typer and rich meet the closed pipe of `jettag --help | head` themselves, and leave with 1.
            if leaving.code != 1:
                raise
            sys.stdout = stdout
            forget_stdout()
            result = 0
        except OSError as error:
            error_line(f"error: {error.strerror or error}; check where the output goes")
            result = 7
        except typer.Abort:
            error_line("error: interrupted")
            result = 130
        except Exception as error:
            # Typer keeps its usage errors in a private module; they are known by what they carry.
            if not hasattr(error, "format_message") or not hasattr(error, "exit_code"):
                raise
            context = getattr(error, "ctx", None)
            if type(error).__name__ == "NoArgsIsHelpError":
                sys.stdout.write(error.format_message() + "\n")
            else:
                command = context.command_path if context is not None else "jettag"
                message = error.format_message().rstrip(".")
                error_line(f"error: {message} in `{command}`; see `{command} --help`")
            result = error.exit_code
        if standalone_mode:
            sys.exit(result if isinstance(result, int) else 0)
        return result

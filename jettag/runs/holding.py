"""The run directory while a training has it: who trains, and what a signal leaves behind."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from jettag.errors import Stopped
from jettag.runs.common import NOBODY, Told
from jettag.runs.training_picture import draw_training_picture
from jettag.training.checkpoint import has_checkpoint
from jettag.training.distributed import World, join
from jettag.training.run_directory import occupy, open_run, update_run
from jettag.training.signals import stop_at_once

__all__ = ["hold_run"]


@contextmanager
def hold_run(out: Path, *, resume: bool, told: Told, pictures: bool = True) -> Iterator[tuple[World, bool, Told]]:
    """Hold the run directory, together with the processes that torchrun started beside this one.

    A training that a signal stops is drawn, if there shall be ``pictures``, after it is told in ``run.json``.

    Yields:
        Who trains; whether to go on with what is there; and whom to tell, which only the first process does.

    Raises:
        Stopped: a signal came. Before the first checkpoint the same command begins anew, with ``--resume`` or without.
    """
    with join() as world, ExitStack() as held, stop_at_once():

        def enter() -> bool:
            held.enter_context(occupy(out))
            resuming = open_run(out, resume=resume)
            if resuming:
                update_run(out, stopped=None)
            return resuming

        resuming = world.first(enter)
        try:
            yield world, resuming, told if world.is_first else NOBODY
        except (Stopped, KeyboardInterrupt) as stop:
            code = stop.exit_code if isinstance(stop, Stopped) else 130
            if world.is_first:
                _note_stop(out, code, world)
            if has_checkpoint(out):
                if world.is_first and pictures:
                    with suppress(Stopped, KeyboardInterrupt):  # asked again: no picture, and the first exit code
                        draw_training_picture(out, told.note)
                raise
            raise Stopped(
                "stopped before the first checkpoint, nothing is trained yet",
                where=out,
                do="the same command starts it, with or without --resume",
                exit_code=code,
            ) from None


def _note_stop(out: Path, code: int, world: World) -> None:
    """Write the exit code into ``run.json``: torchrun tells every failure as 1; scripts read it there.

    One process tells it itself, and leaves no run that was not begun.
    """
    begun = (out / "run.json").is_file()
    if begun or world.size > 1:
        update_run(out, begin=not begun, stopped=code)

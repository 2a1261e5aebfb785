"""What a recipe costs and where it ends: a small run that anybody can repeat, written into the recipe."""

from pydantic import Field

from jettag.config.loading import Section

__all__ = ["MeasuredRecipe"]


class MeasuredRecipe(Section):
    """One run of the recipe as it is shipped. It is told to people and read by no run, so runs do not carry it."""

    data: list[str] = Field(min_length=1)  # the commands that make the jets
    command: str = Field(min_length=1)  # the run
    machine: str = Field(min_length=1)  # and the size of the network on it
    steps: int = Field(ge=1)  # of the optimizer
    cpu_minutes: float = Field(gt=0)  # of all threads, with start, reading and validation
    val_loss: float  # at the end; other jets, seeds and machines give others

"""Published results on the Top Landscape test set, read from published.yaml beside this file."""

from importlib.resources import files
from pathlib import Path

from pydantic import Field

from jettag.config import Section, read_yaml, validate

__all__ = ["Published", "PublishedModel", "published"]


class PublishedModel(Section):
    """One line: rejections are (value, error over trainings), None where nobody published them."""

    model: str
    paper: str = Field(pattern=r"^arXiv:\d{4}\.\d{4,5}$")
    parameters: int = Field(gt=0)
    jets: int = Field(gt=0)
    accuracy: float | None = Field(gt=0, lt=1)
    auc: float | None = Field(gt=0, lt=1)
    rejection_50: tuple[float, float] | None
    rejection_30: tuple[float, float] | None


class Published(Section):
    """The block: which test set, where the numbers are from, and the models."""

    test_set: str
    data: str
    table: str
    models: tuple[PublishedModel, ...]

    @property
    def statement(self) -> str:
        """What has to stand above the numbers wherever they are shown."""
        return (
            f"Published results on the {self.test_set} test set ({self.data}), from {self.table}. They belong to that "
            "data set: they are no comparison to the jets evaluated here."
        )


def published() -> Published:
    """The published block as shipped."""
    path = Path(str(files("jettag.evaluation").joinpath("published.yaml")))
    return validate(Published, read_yaml(path), where=path)

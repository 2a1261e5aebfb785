"""The jets of a label scan: those that any point draws, in memory once, and what each point takes of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jettag.config.recipe import FinetuneRecipe
from jettag.data.card import DataCard
from jettag.data.jets import JetTable, Table
from jettag.data.opening import open_jets, prepared_card
from jettag.data.read import InputFile
from jettag.data.splits import hold_out
from jettag.data.subsets import classes_of, draw_rows, take
from jettag.errors import DataError
from jettag.runs.common import Opened, Told, flavour_of, labelled_card
from jettag.runs.flavour_data import check_origins, refuse_missing_truth
from jettag.runs.scan_plan import Point

__all__ = ["Drawn", "Pool", "cut_pool", "read_pool"]

Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """Of the jets of some files those that any point draws: a prepared directory may hold far more than memory does.

    Attributes:
        table: in memory.
        label: (J,) class of every jet of the files.
        rows: which of them are in ``table``, ascending.
    """

    table: JetTable
    label: Index
    rows: Index

    def draw(self, labels: int, seed: int) -> JetTable:
        """What `jettag.data.subsets.draw` gives of all jets."""
        return take(self.table, np.searchsorted(self.rows, draw_rows(self.label, labels, seed)))


@dataclass(frozen=True)
class Pool:
    """What the points train on, what chooses their checkpoints (None: a part of that), and what judges them."""

    card: DataCard
    train: Drawn
    train_inputs: Sequence[InputFile]
    val: Drawn | None
    val_inputs: Sequence[InputFile]
    test: Table


def read_pool(
    recipe: FinetuneRecipe,
    card_name: str | None,
    points: Sequence[Point],
    train: Sequence[InputFile],
    val: Sequence[InputFile],
    test: Sequence[InputFile],
    told: Told,
) -> Pool:
    """Read what the points need.

    Args:
        recipe: of every point, but for its labels and seed.
        card_name: of the files; None takes the recipe's.
        points: of the scan.
        train: files of labelled jets.
        val: files that choose checkpoints, or none.
        test: files that judge.
        told: hears of jets left out.

    Raises:
        DataError: as `open_jets`; a class has no jet, or there are fewer jets than labels.
    """
    card = prepared_card(train) or labelled_card(card_name, recipe, [*train, *val, *test])
    flavour = flavour_of(recipe)

    def read(inputs: Sequence[InputFile], split: str) -> Table:
        if flavour is not None:
            refuse_missing_truth(inputs, card, flavour)
        table = open_jets(
            inputs,
            prepared_card(inputs) or card,
            split=split,
            features=recipe.data.features,
            labels=True,
            classes=recipe.classes,
            max_constituents=recipe.data.max_constituents,
            jet_columns=recipe.data.sampling.jet_columns if recipe.data.sampling else (),
            constituent_columns=flavour.constituent_columns if flavour else (),
            batch_columns=flavour.jet_columns if flavour else (),
        )
        check_origins(table)
        for what, count in table.notes.items():
            if count:
                told.note(f"{split}: {count} {what.replace('_', ' ')}")
        counts = table.class_counts
        assert counts is not None  # labels=True
        absent = [name for name, count in zip(table.class_names, counts, strict=True) if not count]
        if absent:
            where = str(inputs[0].address)
            raise DataError(f"no {split} jet of class {', '.join(absent)}", where=where, do="give files of every class")
        return table

    most, seeds = max(point.labels for point in points), sorted({point.seed for point in points})

    def drawn(inputs: Sequence[InputFile], split: str, *, all_there: bool) -> Drawn:
        table = read(inputs, split)
        label = classes_of(table)
        if all_there and most > len(label):
            what = f"{most} labels asked for, {len(label)} jets there"
            raise DataError(what, where=inputs[0].address, do="give more files in --data, or fewer --labels")
        rows = np.unique(np.concatenate([draw_rows(label, min(most, len(label)), seed) for seed in seeds]))
        return Drawn(take(table, rows), label, rows)

    return Pool(
        card=card,
        train=drawn(train, "train", all_there=True),
        train_inputs=train,
        val=drawn(val, "val", all_there=False) if val else None,
        val_inputs=val,
        test=read(test, "test"),
    )


def cut_pool(recipe: FinetuneRecipe, pool: Pool) -> Opened:
    """The jets of one point, as `finetune` with this recipe reads them itself."""
    labels, seed = recipe.data.max_jets, recipe.data.draw_seed
    assert labels is not None  # `point_recipe` sets them
    assert seed is not None
    table: Table = pool.train.draw(labels, seed)
    held: Table
    if pool.val is None:
        table, held = hold_out(table, recipe.data.val_fraction, recipe.seed)
    else:
        held = pool.val.draw(min(labels, len(pool.val.label)), seed)
    return Opened(table, held, pool.card, pool.train_inputs, pool.val_inputs)

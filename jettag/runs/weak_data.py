"""The jets of a weakly supervised study: three roles of files, their classes, features, embeddings and constituents."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from jettag.data.card import DataCard, load_card
from jettag.data.inputs import InputFile, expand_inputs
from jettag.data.jet_columns import EMBEDDING, JetColumns, read_jet_columns
from jettag.data.jets import JetTable
from jettag.data.read import read_table
from jettag.errors import DataError, UsageError, nearest
from jettag.runs.common import Told
from jettag.runs.inference import embeddings
from jettag.runs.seen import refuse_shared
from jettag.training import load_backbone
from jettag.training.restore import features_of
from jettag.weak.checks import check_features
from jettag.weak.features import columns_of, feature_matrix

__all__ = [
    "ROLES",
    "Pool",
    "Pools",
    "Reader",
    "WeakSources",
    "class_names_of",
    "embed_pool",
    "make_pool",
    "read_pools",
    "several_signals",
]

ROLES = ("background", "signal")


@dataclass(frozen=True)
class WeakSources:
    """Files by role.

    Attributes:
        background: jets that are background.
        signal: jets that are signal.
        test: jets of both that judge, and do nothing else.
        card: name or path of the data card.
        background_class: classes that count as background; default all in those files.
        signal_class: classes that count as signal; default all in those files.
    """

    background: Sequence[str]
    signal: Sequence[str]
    test: Sequence[str]
    card: str = "jetclass"
    background_class: Sequence[str] = ()
    signal_class: Sequence[str] = ()


@dataclass(frozen=True)
class Pool:
    """Jets of one kind, row by row.

    Attributes:
        features: (n, F) jet-level features, F may be 0.
        embedding: (n, D) of a backbone that sees as many constituents as it was trained with, or None.
        jets: constituents, or None where nobody asked for them.
        network_embedding: (n, D) of the same backbone of ``jets``, which may be cut elsewhere, or None.
    """

    features: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32] | None
    jets: JetTable | None
    network_embedding: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.features)

    def select(self, rows: npt.NDArray) -> "Pool":
        """The jets at ``rows``: positions, or (n,) bool."""
        return Pool(
            self.features[rows],
            None if self.embedding is None else self.embedding[rows],
            None if self.jets is None else self.jets.select(np.asarray(rows)),
            None if self.network_embedding is None else self.network_embedding[rows],
        )


@dataclass(frozen=True)
class Pools:
    """All jets of a study.

    Attributes:
        background: to draw mixtures from.
        signal: to draw mixtures from.
        test_background: judges.
        test_signal: judges.
        signal_names: (n,) class of each jet of ``test_signal``.
        names: of the features.
        card: of the files.
        inputs: the training files.
        test_inputs: the files that judge.
    """

    background: Pool
    signal: Pool
    test_background: Pool
    test_signal: Pool
    signal_names: npt.NDArray[np.str_]
    names: tuple[str, ...]
    card: DataCard
    inputs: Sequence[InputFile]
    test_inputs: Sequence[InputFile]


def read_pools(
    sources: WeakSources,
    features: Sequence[str],
    *,
    backbone: Path | None = None,
    constituents: tuple[str, int] | None = None,
    frozen: bool = False,
    test_jets: int | None = None,
    device: torch.device,
    told: Told,
    judging: str = "--test",
) -> Pools:
    """Read every role's jets, and see that no judge trains.

    Args:
        sources: the files.
        features: jet-level, with ``embedding`` for the column of `jettag embed`.
        backbone: run whose embeddings of the jets are wanted.
        constituents: feature set and most constituents, where networks train on them.
        frozen: whether networks begin with that backbone frozen, so that its embeddings of what they see are wanted.
        test_jets: of each class that judge, at most, drawn at random; the same ones each time.
        device: where the backbone runs.
        told: of jets of other classes.
        judging: the option of the jets that judge, as errors name it.

    Raises:
        DataError: a file lacks something, a test file trains, a role is empty, a feature is NaN.
        UsageError: a class stands in both roles.
    """
    card = load_card(sources.card)
    files = {"background": sources.background, "signal": sources.signal, "test": sources.test}
    inputs = {role: expand_inputs(patterns) for role, patterns in files.items()}
    for role in ROLES:
        refuse_shared(inputs[role], inputs["test"], f"--{role}", judging)
    names = class_names_of(card, inputs)
    reader = Reader(card, columns_of(features) if features else (), names, constituents, backbone)
    read = {role: reader(inputs[role], role if role in ROLES else "") for role in files}
    wanted = {"background": sources.background_class, "signal": sources.signal_class}
    classes = {role: _classes(read[role][0], names, wanted[role], role) for role in ROLES}
    shared = set(classes["background"]) & set(classes["signal"])
    if shared:
        name = names[min(shared)]
        do = "choose classes with --background-class and --signal-class"
        raise UsageError(f"class {name} stands in --background and in --signal", do=do)
    pools = {}
    for key, role, kind in (
        ("background", "background", "background"),
        ("signal", "signal", "signal"),
        ("test_background", "test", "background"),
        ("test_signal", "test", "signal"),
    ):
        jets, table = read[role]
        chosen = np.isin(jets.label, classes[kind])
        if not chosen.any():
            option = judging if role == "test" else f"--{role}"
            where = f"{option} {inputs[role][0].address}"
            raise DataError(f"no {kind} jet", where=where, do=f"expected {_list(names, classes[kind])}")
        pools[key] = make_pool(jets, table, features, chosen)
    labels = read["test"][0].label
    signal_names = np.array(names)[labels[np.isin(labels, classes["signal"])]]
    others = len(labels) - len(pools["test_background"]) - len(pools["test_signal"])
    if others:
        told.note(f"{others} test jets of other classes are left out")
    if test_jets is not None:
        random = np.random.default_rng(13)
        for key in ("test_background", "test_signal"):
            rows = np.sort(random.permutation(len(pools[key]))[:test_jets])
            pools[key] = pools[key].select(rows)
        signal_names = signal_names[rows]  # of the last of the two
    most = None if constituents is None else constituents[1]
    if backbone is not None:
        pools = {
            key: embed_pool(pool, backbone, device, told, key, most=most, frozen=frozen and key in ROLES)
            for key, pool in pools.items()
        }
    columns = _column_names(features, pools["background"].features.shape[1])
    for key, pool in pools.items():
        option, role = (f"--{key}", key) if key in ROLES else (judging, "test")
        check_features(pool.features, columns, where=f"{option} {inputs[role][0].address}")
    train = [*inputs["background"], *inputs["signal"]]
    return Pools(**pools, signal_names=signal_names, names=columns, card=card, inputs=train, test_inputs=inputs["test"])


@dataclass(frozen=True)
class Reader:
    """Reads jet columns, and constituents where they are wanted or a backbone asks for them.

    Attributes:
        card: of the files.
        columns: of jets.
        names: of all classes that a jet may have.
        constituents: feature set and most constituents; None for none.
        backbone: whose features are read where ``constituents`` is None, and at least as many constituents as it sees.
    """

    card: DataCard
    columns: tuple[str, ...]
    names: tuple[str, ...]
    constituents: tuple[str, int] | None
    backbone: Path | None

    def __call__(self, inputs: Sequence[InputFile], default: str) -> tuple[JetColumns, JetTable | None]:
        """The jets of files, whose class is ``default`` where they tell none.

        Raises:
            DataError: a file lacks something.
            UsageError: constituents of files that hold embeddings.
        """
        wanted = self.constituents
        if self.backbone is not None:
            feature_set, _, most, _ = features_of(self.backbone)
            wanted = (feature_set, most) if wanted is None else (wanted[0], max(wanted[1], most))
        if wanted is None:
            return read_jet_columns(inputs, self.card, self.columns, self.names, default=default), None
        if EMBEDDING in self.columns:
            raise UsageError("files of embeddings have no constituents", do="leave out --from, or --features embedding")
        given = {file.class_name for file in inputs}
        table = read_table(
            inputs,
            self.card,
            features=wanted[0],
            labels=True,
            # A role that no file has been given is known to nobody; roles stand last, so places stay.
            classes=[name for name in self.names if name not in ROLES or name in given],
            max_constituents=wanted[1],
            jet_columns=self.columns,
        )
        assert table.label is not None  # labels=True
        return JetColumns(table.jet, table.label, table.class_names), table


def class_names_of(card: DataCard, inputs: dict[str, list[InputFile]]) -> tuple[str, ...]:
    """Every class that a jet may have: the card's, the files', and the roles where files tell none.

    Files of signals may be of classes that the card does not know, so that several of them have names.

    Raises:
        DataError: other files are of a class that nobody knows.
    """
    given = [file.class_name for files in inputs.values() for file in files if file.class_name]
    told = {name for files in inputs.values() for name in (file.class_name for file in files) if name}
    known = {*card.classes, *ROLES, *(file.class_name for file in inputs.get("signal", ()) if file.class_name)}
    for name in sorted(told - known) if card.classes else ():
        raise DataError(f"no class {name!r} in card {card.name}", do=nearest(name, known))
    return tuple(dict.fromkeys([*card.classes, *given, *ROLES]))


def _classes(jets: JetColumns, names: Sequence[str], wanted: Sequence[str], role: str) -> list[int]:
    """Places of the classes that count in this role."""
    for name in wanted:
        if name not in names:
            raise UsageError(f"no class {name!r} for --{role}-class", do=nearest(name, names))
    present = [int(value) for value in np.unique(jets.label) if value >= 0]
    return [place for place in present if not wanted or names[place] in wanted]


def _list(names: Sequence[str], places: Sequence[int]) -> str:
    return ", ".join(names[place] for place in places) or "one of another class"


def make_pool(jets: JetColumns, table: JetTable | None, features: Sequence[str], chosen: npt.NDArray[np.bool_]) -> Pool:
    """The chosen jets with their features."""
    rows = np.flatnonzero(chosen)
    values = {name: column[rows] for name, column in jets.values.items()}
    matrix = feature_matrix(values, features) if features else np.empty((len(rows), 0), np.float32)
    embedding = values[EMBEDDING].astype(np.float32) if EMBEDDING in values else None
    return Pool(matrix, embedding, None if table is None else table.select(rows))


def embed_pool(
    pool: Pool,
    backbone: Path,
    device: torch.device,
    told: Told,
    what: str,
    *,
    most: int | None = None,
    frozen: bool = False,
) -> Pool:
    """The pool with the backbone's embeddings, which do not depend on what else is done with the jets.

    Args:
        pool: jets, with at least as many constituents as the backbone was trained with.
        backbone: a run.
        device: where it runs.
        told: of the work.
        what: the jets are.
        most: constituents that the jets keep afterwards.
        frozen: whether the embeddings of these are wanted too.

    Raises:
        UsageError: the jets were read with other features than the backbone's.
    """
    assert pool.jets is not None  # a backbone asks for constituents
    _, feature_names, own, _ = features_of(backbone)
    if tuple(pool.jets.feature_names) != feature_names:
        do = "give networks the backbone's features with --set data.features=..."
        raise UsageError("the backbone has other features than the recipe", do=do)
    told.note(f"embedding {len(pool)} jets of {what}")
    network, _ = load_backbone(backbone, feature_names)
    network.to(device).eval()
    every = np.arange(len(pool))
    embedding = embeddings(network, pool.jets.select(every, own), device)
    jets = pool.jets if most is None else pool.jets.select(every, most)
    again = None
    if frozen:
        again = embedding if most == own else embeddings(network, jets, device)
    return Pool(pool.features, embedding, jets, again)


def several_signals(names: npt.NDArray[np.str_]) -> list[str]:
    """What a study says where the jets that judge are of several signals."""
    kinds = np.unique(names)
    text = f"signals {', '.join(kinds)} train together and are judged together; the total improvement is of each alone"
    return [text] if len(kinds) > 1 else []


def _column_names(features: Sequence[str], width: int) -> tuple[str, ...]:
    plain = [name.removeprefix("jet_") for name in features]
    vectors = width - (len(plain) - plain.count(EMBEDDING))
    names: list[str] = []
    for name in plain:
        names += [f"embedding {place}" for place in range(vectors)] if name == EMBEDDING else [name]
    return tuple(names)

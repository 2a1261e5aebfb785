"""Rows of files as experiments write them, and what reading them back must give."""

import awkward as ak
import numpy as np

from jettag.data.card import load_card
from jettag.data.read import expand_inputs, read_events, read_table


def padded(counts, fields, width=10):
    """(J, width) records of tracks with `valid`; padding is NaN, -1 or 0."""
    kinds = [
        (name, values.dtype.newbyteorder("=") if values.dtype.kind != "f" else "f4") for name, values in fields.items()
    ]
    rows = np.zeros((len(counts), width), dtype=[*kinds, ("valid", "?")])
    rows["valid"] = np.arange(width) < counts[:, None]
    for name, values in fields.items():
        rows[name] = np.nan if values.dtype.kind == "f" else 0 if values.dtype.kind == "u" else -1
        rows[name][rows["valid"]] = values
    return rows


def records(fields):
    rows = np.zeros(len(next(iter(fields.values()))), dtype=[(name, values.dtype) for name, values in fields.items()])
    for name, values in fields.items():
        rows[name] = values
    return rows


def agree(path, card, truth, *, vertex=True, origin=True, errors=True, atol=2e-4):
    """Momenta, impact parameters and truth of every track, as `read_events` gives them in the file's order."""
    _, _, track = truth
    found = ak.flatten(read_events(path, card).constituents)
    for name, values in (("pt", track["pt"]), ("eta", track["eta"]), ("d0", track["d0"]), ("dz", track["z0"])):
        np.testing.assert_allclose(ak.to_numpy(getattr(found, name)), values, rtol=1e-3, atol=atol)
    np.testing.assert_allclose(np.cos(ak.to_numpy(found.phi) - track["phi"]), 1, atol=1e-5)
    assert found.charge.tolist() == track["charge"].tolist()
    if errors:
        np.testing.assert_allclose(found.d0_error, track["d0err"], rtol=1e-3)
        np.testing.assert_allclose(found.dz_error, track["z0err"], rtol=1e-3)
    if vertex:
        assert found.vertex.tolist() == track["vertex"].tolist()
    if origin:
        assert found.origin.tolist() == track["origin"].tolist()


def classes(path, card, truth, **columns):
    """The table has every jet with tracks, in order, of the class that it was given."""
    counts, jet, _ = truth
    table = read_table(expand_inputs([path]), load_card(card), features="jetclass_kin", labels=True, **columns)
    names = {5: "b", 4: "c", 0: "light"}
    assert [table.class_names[label] for label in table.label] == [names[code] for code in jet["flavour"][counts > 0]]
    assert table.notes["jets_without_constituents"] == 1
    return table

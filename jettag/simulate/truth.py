"""Truth of jets and tracks: matched resonance, flavour from ghosts, origin and vertex of every track.

Heavy hadrons are recognised by their PDG code (quarkonia are no heavy hadrons), ancestors are found by pointer
doubling along the decay chain, the precedence of the origins is that of ATLAS's flavour tagging.
"""

import numpy as np

from jettag.config.origins import ORIGINS
from jettag.simulate.clustering import Jets
from jettag.simulate.events import Bools, Events, Floats, Ints

__all__ = [
    "ORIGINS",
    "extended_flavour",
    "flavour_ghosts",
    "flight",
    "from_b",
    "hadron_flavour",
    "jet_flavour",
    "match",
    "track_origin",
    "track_vertex",
]

NEUTRAL = -1
PILE_UP_VERTEX, NEUTRAL_VERTEX = -2, -1
VERTEX_DISTANCE = 0.1  # production points closer than this are one vertex [mm]
GHOST_PT = 5.0  # hadrons and taus below this do not give a jet its flavour [GeV]
_B, _C, _TAU, _STRANGE = 1, 2, 4, 8
# K0S, K0L, Lambda, Sigma, Xi, Omega: the weak decays of strangeness that Pythia does itself.
_STRANGE_DECAYS = (310, 130, 3122, 3112, 3222, 3312, 3322, 3334)
_DOUBLINGS = 6  # follows chains of 64 decays


def _flavour_of_codes() -> Ints:
    """Flavour by the last four digits of a PDG code, (10000,)."""
    code = np.arange(10_000)
    quarks = np.stack([code // 1000, code // 100 % 10, code // 10 % 10])
    hadron = (quarks[1] > 0) & (quarks[2] > 0)
    quarkonium = (quarks[0] == 0) & (quarks[1] == quarks[2])
    return np.where(hadron & ~quarkonium, quarks.max(axis=0), 0)


_FLAVOUR = _flavour_of_codes()


def hadron_flavour(pdg: Ints) -> Ints:
    """5, 4 or 3 to 1 by the heaviest quark of a hadron, 0 for quarkonia and all else, (M,) -> (M,)."""
    code = np.abs(pdg)
    flavour: Ints = np.where(code < 1_000_000, _FLAVOUR[code % 10_000], 0)
    return flavour


def _ancestors(events: Events) -> Ints:
    """(M,) bits of what each entry descends from by decay, itself not counted."""
    code = np.abs(events.pdg)
    flavour = hadron_flavour(events.pdg)
    own = np.where(flavour == 5, _B, 0) | np.where(flavour == 4, _C, 0) | np.where(code == 15, _TAU, 0)
    own |= np.where(np.isin(code, _STRANGE_DECAYS), _STRANGE, 0)
    status = np.abs(events.status)
    rows = np.arange(len(code))
    # Status 91 to 99 is made in a decay; everything else begins a chain.
    parent = np.where((status >= 91) & (status <= 99), events.mother, rows)
    inherited = np.where(parent != rows, own[parent], 0)
    for _ in range(_DOUBLINGS):
        inherited |= inherited[parent]
        parent = parent[parent]
    return inherited


def from_b(events: Events, rows: Ints) -> Bools:
    """(P,) whether these entries descend from a b hadron."""
    return (_ancestors(events)[rows] & _B) > 0


def track_origin(events: Events, rows: Ints, secondary: Bools | None = None) -> Ints:
    """Origin class of charged final-state particles, first match wins.

    Args:
        events: the batch.
        rows: (P,) rows of the particles; -1 for pile-up.
        secondary: (P,) made in material by the particle of that row.

    Returns:
        (P,) index into `ORIGINS`.
    """
    bits = _ancestors(events)[rows]
    b, c = (bits & _B) > 0, (bits & _C) > 0
    other = (bits & _STRANGE) > 0
    if secondary is not None:
        other |= secondary
    choices = [rows < 0, b & ~c, b & c, c, (bits & _TAU) > 0, other]
    return np.select(choices, [0, 3, 4, 5, 6, 7], default=2)


def track_vertex(position: Floats, jet: Ints, charged: Bools, pile_up: Bools) -> Ints:
    """Number the production vertices of a jet's tracks: 0 within 0.1 mm of the primary, then 1, 2, ... as they come.

    Args:
        position: (K, 3) production points [mm] of the constituents, in order, the primary vertex at the origin.
        jet: (K,) jet of each.
        charged: (K,) which have a track.
        pile_up: (K,) which are of another collision.

    Returns:
        (K,) the number; -1 for neutral ones, -2 for pile-up.
    """
    number = np.where(charged, np.where(pile_up, PILE_UP_VERTEX, 0), NEUTRAL_VERTEX)
    away = np.flatnonzero((number == 0) & (np.einsum("ij,ij->i", position, position) > VERTEX_DISTANCE**2))
    current = -1
    seen: list[list[float]] = []
    for row, owner, point in zip(away.tolist(), jet[away].tolist(), position[away].tolist(), strict=True):
        if owner != current:
            current, seen = owner, []
        for index, other in enumerate(seen):
            apart = (point[0] - other[0]) ** 2 + (point[1] - other[1]) ** 2 + (point[2] - other[2]) ** 2
            if apart < VERTEX_DISTANCE**2:
                number[row] = index + 1
                break
        else:
            seen.append(point)
            number[row] = len(seen)
    return number


def flavour_ghosts(events: Events) -> tuple[Ints, Ints]:
    """Weakly decaying heavy hadrons and hadronic taus above 5 GeV: rows (G,) and flavours 5, 4 or 15 (G,)."""
    code = np.abs(events.pdg)
    flavour = hadron_flavour(events.pdg)
    kind = np.where(flavour >= 4, flavour, np.where(code == 15, 15, 0))
    rows = np.flatnonzero((kind > 0) & (events.first_daughter > events.offsets[events.event]))
    rows = rows[np.hypot(events.p4[rows, 0], events.p4[rows, 1]) > GHOST_PT]
    # The last of its kind: no daughter of the same flavour (mixing, B* -> B gamma), no lepton beside a tau's neutrino.
    keep = np.ones(len(rows), dtype=bool)
    first, last = events.first_daughter[rows], events.last_daughter[rows]
    for step in range(int((last - first).max(initial=0)) + 1):
        daughter = np.minimum(first + step, last)
        same = np.where(kind[rows] == 15, np.isin(code[daughter], (11, 13, 15)), flavour[daughter] == kind[rows])
        keep &= ~same
    return rows[keep], kind[rows[keep]]


def jet_flavour(jets: int, ghost_jet: Ints, ghost_flavour: Ints) -> Ints:
    """(J,) 5, 4, 15 or 0, in that precedence, from the ghosts in each jet."""
    flavour = np.zeros(jets, dtype=np.int64)
    for kind in (15, 4, 5):
        inside = ghost_jet[(ghost_flavour == kind) & (ghost_jet >= 0)]
        flavour[inside] = kind
    return flavour


def extended_flavour(jets: int, hadron_jet: Ints, flavour: Ints, of_b: Bools) -> Ints:
    """ATLAS's extended labels from the hadrons in each jet.

    Args:
        jets: J.
        hadron_jet: (G,) jet of each hadron or tau, -1 where it is in none.
        flavour: (G,) 5, 4 or 15.
        of_b: (G,) whether it comes from a b hadron.

    Returns:
        (J,) 55 with two b hadrons, 54 with a b and a c that is not from a b, 5, 44 with two such c, 4, 15 or 0.
    """

    def count(which: Bools) -> Ints:
        return np.bincount(hadron_jet[which & (hadron_jet >= 0)], minlength=jets)

    b, c, prompt_c = count(flavour == 5), count(flavour == 4), count((flavour == 4) & ~of_b)
    choices = [b >= 2, (b == 1) & (prompt_c >= 1), b == 1, prompt_c >= 2, c >= 1, count(flavour == 15) >= 1]
    return np.select(choices, [55, 54, 5, 44, 4, 15], default=0)


def flight(events: Events, rows: Ints) -> tuple[Floats, Floats]:
    """Where decaying particles decay, and the way they flew, (G, 3) and (G, 3) [mm].

    A B meson that has mixed is followed back to where the meson was made.
    """
    born = rows
    flavour = hadron_flavour(events.pdg)
    while True:
        mother = events.mother[born]
        same = (flavour[born] >= 4) & (flavour[mother] == flavour[born])
        same &= (np.abs(events.pdg[mother]) == np.abs(events.pdg[born])) & (mother != born)
        if not same.any():
            break
        born = np.where(same, mother, born)
    decay = events.vertex[events.first_daughter[rows]]
    return decay, decay - events.vertex[born]


def _last_copy(events: Events, rows: Ints) -> Ints:
    """Follow particles through their copies to the one that decays."""
    while True:
        first, last = events.first_daughter[rows], events.last_daughter[rows]
        following = np.where(events.pdg[first] == events.pdg[rows], first, rows)
        following = np.where((following == rows) & (events.pdg[last] == events.pdg[rows]), last, following)
        if np.array_equal(following, rows):
            return rows
        rows = following


def _resonances(events: Events, resonance: int) -> tuple[Ints, Ints]:
    """Decaying resonances (S,) and what they decay to, W and Z resolved further, (S, 4) with -1 where there is none."""
    code = np.abs(events.pdg)
    # The hard process and its decays have status 21 to 29; the first copy of each is enough, the rest follows.
    hard = np.flatnonzero((code == resonance) & (np.abs(events.status) >= 22) & (np.abs(events.status) <= 29))
    decaying = np.unique(_last_copy(events, hard))
    products = np.full((len(decaying), 4), -1)
    for side, link in enumerate((events.first_daughter, events.last_daughter)):
        child = link[decaying]
        boson = (code[child] == 24) | (code[child] == 23)
        final = _last_copy(events, np.where(boson, child, decaying))
        products[:, 2 * side] = np.where(boson, events.first_daughter[final], child)
        products[:, 2 * side + 1] = np.where(boson, events.last_daughter[final], -1)
    lepton = (products >= 0) & np.isin(code[products], (11, 13))
    products = np.where(lepton, _last_copy(events, products.ravel()).reshape(products.shape), products)
    return decaying, products


def match(events: Events, jets: Jets, resonance: int, radius: float) -> Ints:
    """Row of the resonance each jet contains whole, or of the leading parton nearby.

    A jet contains a resonance where every decay quark, gluon and charged lepton, before showering, lies within
    `radius` of its axis; neutrinos need not. With resonance 0 every jet counts, and the hardest outgoing parton
    within `radius` is named.

    Returns:
        (J,) rows of `events`; -1 where there is none.
    """
    if resonance:
        candidates, products = _resonances(events, resonance)
    else:
        candidates = np.flatnonzero(np.abs(events.status) == 23)
        products = candidates[:, None]
    code = np.abs(events.pdg)
    products = np.where(np.isin(code[products], (12, 14, 16)), -1, products)
    owner = events.event[candidates]
    # Hardest first: the first that fits is taken.
    order = np.lexsort((-np.hypot(events.p4[candidates, 0], events.p4[candidates, 1]), owner))
    candidates, products, owner = candidates[order], products[order], owner[order]
    begin = np.searchsorted(owner, jets.event, side="left")
    count = np.searchsorted(owner, jets.event, side="right") - begin
    jet_eta, jet_phi = _direction(jets.p4)
    found = np.full(len(jets.event), -1)
    for step in range(int(count.max(initial=0))):
        tried = np.flatnonzero((step < count) & (found < 0))
        row = begin[tried] + step
        wanted = products[row]
        eta, phi = _direction(events.p4[wanted.ravel()])
        d_eta = eta.reshape(wanted.shape) - jet_eta[tried, None]
        d_phi = np.remainder(phi.reshape(wanted.shape) - jet_phi[tried, None] + np.pi, 2 * np.pi) - np.pi
        inside = (wanted < 0) | (np.hypot(d_eta, d_phi) < radius)
        whole = inside.all(axis=1) & (wanted >= 0).any(axis=1)
        found[tried[whole]] = candidates[row[whole]]
    return found


def _direction(p4: Floats) -> tuple[Floats, Floats]:
    pt = np.hypot(p4[:, 0], p4[:, 1])
    return np.arcsinh(p4[:, 2] / np.maximum(pt, 1e-9)), np.arctan2(p4[:, 1], p4[:, 0])

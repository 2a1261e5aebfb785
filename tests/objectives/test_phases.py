"""When the backbone is frozen, and the learning rates that follow."""

import pytest

from jettag.objectives.phases import ALL_AT_ONCE, FROZEN, Phases


def falling(share):
    """A schedule from 1 to 0.5."""
    return 1 - share / 2


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_one_phase_follows_the_schedule(progress):
    assert ALL_AT_ONCE.rates(progress, falling) == (falling(progress), falling(progress))
    assert FROZEN.rates(progress, falling) == (falling(progress), 0.0)
    assert FROZEN.is_frozen(progress)
    assert Phases(frozen=1.0, first_rate=9.0).rates(progress, falling) == (9 * falling(progress), 0.0)
    assert not ALL_AT_ONCE.is_frozen(progress)


def test_staged_catches_up_linearly():
    phases = Phases(frozen=0.2, ramp=0.4)
    for progress, climbed in {0.1: 0.0, 0.2: 0.0, 0.3: 0.25, 0.5: 0.75, 0.6: 1.0, 1.0: 1.0}.items():
        head, backbone = phases.rates(progress, falling)
        assert head == falling(progress)
        assert backbone == pytest.approx(climbed * head)
    assert phases.is_frozen(0.19)
    assert not phases.is_frozen(0.2)


def test_a_linear_probe_and_what_follows_have_a_schedule_each():
    phases = Phases(frozen=0.25, restart=True, first_rate=10.0)
    assert phases.rates(0.125, falling) == pytest.approx((10 * falling(0.5), 0.0))
    assert phases.rates(0.25, falling) == pytest.approx((1.0, 1.0))
    assert phases.rates(0.25 + 0.75 / 2, falling) == pytest.approx((falling(0.5), falling(0.5)))


def test_a_pretrained_backbone_may_learn_more_slowly_than_its_head():
    assert Phases(backbone_rate=0.3).rates(0.5, falling) == pytest.approx((falling(0.5), 0.3 * falling(0.5)))
    ramped = Phases(frozen=0.2, ramp=0.4, backbone_rate=0.3)
    assert ramped.rates(0.4, falling) == pytest.approx((falling(0.4), 0.15 * falling(0.4)))
    assert ramped.rates(0.1, falling)[1] == 0

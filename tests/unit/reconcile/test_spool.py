"""What was put on the heap in any order comes out order by order, as it was."""

from hypothesis import given
from hypothesis import strategies as st

from reconcile.facts import Fact, Facts
from reconcile.spool import Spool
from tests.unit.reconcile.test_rules import CONFIRMED, DECLINED, TAKEN_BACK


def parts_of(facts: Facts) -> list[Fact]:
    ones = [facts.order, facts.payment, facts.reservation, facts.shipment]
    return [*(one for one in ones if one), *facts.entries, *facts.charges, *facts.sagas]


WHOLE = {"a": CONFIRMED, "b": TAKEN_BACK, "c": DECLINED}
PARTS = [(order_id, part) for order_id, facts in WHOLE.items() for part in parts_of(facts)]


@given(st.permutations(PARTS))
def test_it_joins(parts: list[tuple[str, Fact]]) -> None:
    with Spool() as spool:
        for part in parts:
            spool.add([part])
        found = list(spool.each())
    assert [facts.order_id for facts in found] == sorted(WHOLE)
    for facts in found:
        assert set(parts_of(facts)) == set(parts_of(WHOLE[facts.order_id]))


def test_nothing_comes_of_nothing() -> None:
    with Spool() as spool:
        assert list(spool.each()) == []

"""Any sequence of facts: an end is an end, fills add up, nothing in flight is forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.commands import ClientOrderId
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Qty, format_units
from fleet.engine.orders import TERMINAL, TRANSITIONS, Fact, Orders, OrderStatus
from tests.builders import filled, submit, yes

O1 = ClientOrderId("o1")
FACTS = st.sampled_from([fact for fact in Fact if fact not in {Fact.FILL, Fact.LAST_FILL}])
FILLS = st.integers(1, 6 * SCALE).map(Qty)
PROOF = {Fact.ACCEPT, Fact.CANCEL, Fact.REJECT, Fact.EXPIRE}


@given(steps=st.lists(FACTS | FILLS, max_size=25), side=st.sampled_from(Side))
def test_an_order_under_any_facts(steps: list[Fact | Qty], side: Side) -> None:
    orders = Orders()
    orders.submit(submit(qty="10", side=side))
    order = orders.get(O1)
    assert order is not None
    total, lost = 0, False
    for number, step in enumerate(steps):
        before = order.status
        orders.anomaly = ""
        if isinstance(step, Fact):
            orders.learn(O1, step)
            known = step in TRANSITIONS[before]
            if known and step is Fact.LOSE:
                lost = order.open
            elif known and step in PROOF:
                lost = False
        else:
            total += step
            orders.fill(
                filled("o1", format_units(step), "0.5", trade=f"t{number}", token=yes(), side=side)
            )
            fact = Fact.LAST_FILL if total >= order.qty else Fact.FILL
            known = fact in TRANSITIONS[before]
            lost = lost and not known
        assert bool(orders.anomaly) >= (not known)
        assert known or order.status is before
        assert before not in TERMINAL or order.status is before
        assert order.open is (order.status not in TERMINAL) is (O1 in orders.open)
        assert order.filled == total
        assert order.remaining == (max(0, order.qty - total) if order.open else 0)
        assert orders.unresolved(yes()) is order.unresolved is (lost and order.open)


@given(facts=st.lists(FACTS, max_size=10))
def test_the_same_fact_twice_is_the_fact_once(facts: list[Fact]) -> None:
    """For every fact the venue can tell, a duplicate changes nothing but (perhaps) our alarm."""
    once, twice = Orders(), Orders()
    for orders in (once, twice):
        orders.submit(submit())
    for fact in facts:
        once.learn(O1, fact)
        twice.learn(O1, fact)
        settled = once.get(O1)
        if fact is not Fact.REFUSE_CANCEL or settled is None:
            twice.learn(O1, fact)
        assert once.get(O1) == twice.get(O1)


def test_the_table_never_leads_out_of_an_end() -> None:
    for status in TERMINAL:
        assert set(TRANSITIONS[status].values()) <= {status}
    assert set(TRANSITIONS) == set(OrderStatus)

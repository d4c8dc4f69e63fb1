"""Exact money: reading, writing, rounding."""

import pytest

from fleet.domain.units import (
    SCALE,
    UnitsError,
    ceil_to,
    floor_to,
    format_dollars,
    format_units,
    notional_down,
    notional_up,
    parse_cash,
    parse_price,
    parse_qty,
    parse_units,
    scale_ratio,
    shares_for,
)
from tests.builders import c, p, q


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.52", 52_000_000),
        (".5", 50_000_000),
        ("1.", SCALE),
        ("-3", -3 * SCALE),
        ("+3", 3 * SCALE),
        ("0", 0),
        ("0.00000001", 1),
        ("-0.00000001", -1),
        ("0.1000000000", 10_000_000),
        ("007", 7 * SCALE),
        ("92233720368.54775807", 2**63 - 1),
    ],
)
def test_a_decimal_text_is_read_exactly(text: str, value: int) -> None:
    assert parse_units(text) == value
    assert [int(read(text)) for read in (parse_price, parse_qty, parse_cash)] == [value] * 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-",
        "+",
        "1e5",
        "1_000",
        "0x1",
        " 1",
        "1 ",
        "1,5",
        "--1",
        "+-1",
        "nan",
        "inf",
        "1.2.3",
        "١",
        "²",
    ],
)
def test_what_is_no_decimal_is_refused(text: str) -> None:
    with pytest.raises(UnitsError, match="not a decimal number"):
        parse_units(text)


@pytest.mark.parametrize("text", ["0.000000001", "1.123456789"])
def test_more_than_eight_decimals_are_refused(text: str) -> None:
    with pytest.raises(UnitsError, match="more than 8 decimals"):
        parse_units(text)


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (52_000_000, 0, "0.52"),
        (52_000_000, 4, "0.5200"),
        (SCALE, 0, "1"),
        (SCALE, 2, "1.00"),
        (-1, 0, "-0.00000001"),
        (0, 0, "0"),
        (-3 * SCALE, 2, "-3.00"),
    ],
)
def test_units_are_written_exactly(value: int, places: int, text: str) -> None:
    assert format_units(value, places=places) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("3.456", "3.46"),
        ("-3.456", "-3.46"),
        ("0.005", "0.01"),
        ("-0.005", "-0.01"),
        ("0.00499999", "0.00"),
        ("-0.00499999", "0.00"),
        ("99.995", "100.00"),
        ("1234567.8", "1234567.80"),
    ],
)
def test_dollars_for_a_person(value: str, text: str) -> None:
    assert format_dollars(parse_units(value)) == text


def test_costs_round_up_and_proceeds_round_down() -> None:
    third = parse_price("0.33333333")
    assert notional_up(third, q("3")) == notional_down(third, q("3")) == c("0.99999999")
    assert notional_up(third, q("0.1")) == 3_333_334
    assert notional_down(third, q("0.1")) == 3_333_333
    assert notional_up(p("0.5"), q("0")) == 0


def test_shares_for_never_costs_more_than_the_cash() -> None:
    assert shares_for(c("100"), p("0.03")) == 333_333_333_333
    assert notional_up(p("0.03"), shares_for(c("100"), p("0.03"))) <= c("100")
    assert shares_for(c("100"), p("0")) == 0


@pytest.mark.parametrize(
    ("value", "step", "low", "high"),
    [(7, 5, 5, 10), (10, 5, 10, 10), (0, 5, 0, 0), (-7, 5, -10, -5)],
)
def test_steps(value: int, step: int, low: int, high: int) -> None:
    assert (floor_to(value, step), ceil_to(value, step)) == (low, high)


@pytest.mark.parametrize(
    ("value", "ratio", "result"),
    [(1_000, 500_000, 5), (-1_999, 500_000, -9), (1_999, -500_000, -9), (-1_000, -500_000, 5)],
)
def test_a_ratio_rounds_towards_zero(value: int, ratio: int, result: int) -> None:
    assert scale_ratio(value, ratio) == result

"""A model's answer is exactly what was asked for, or a lost sample."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet.forecasting.answers import EDGE, AnswerInvalid, pooled, read_answer
from fleet.forecasting.llm_settings import POOLS
from fleet.forecasting.prompts import ANSWER_SCHEMA

GOOD = [
    ('{"reasoning": "so", "probability": 0.25}', 0.25),
    ('{"probability": 1, "reasoning": ""}', 1.0),
    (' \n{"reasoning":"so","probability":0}\n', 0.0),
    ('{"reasoning": "so", "probability": 2.5e-1}', 0.25),
]
BAD = [
    "",
    "0.5",
    "I would say 50 %.",
    '```json\n{"reasoning": "so", "probability": 0.5}\n```',
    '{"reasoning": "so", "probability": 1.0000001}',
    '{"reasoning": "so", "probability": -0.1}',
    '{"reasoning": "so", "probability": 55}',
    '{"reasoning": "so", "probability": "0.5"}',
    '{"reasoning": "so", "probability": NaN}',
    '{"reasoning": "so", "probability": Infinity}',
    '{"reasoning": "so", "probability": 1e999}',
    '{"reasoning": "so", "probability": ' + "9" * 5_000 + "}",
    '{"reasoning": "so", "probability": true}',
    '{"reasoning": "so", "probability": null}',
    '{"reasoning": "so"}',
    '{"probability": 0.5}',
    '{"reasoning": "so", "probability": 0.5, "size_usd": 5000}',
    '{"reasoning": "so", "probability": 0.1, "probability": 0.99}',
    '{"reasoning": "so", "probability": 0.5} {"reasoning": "so", "probability": 0.9}',
    '{"reasoning": ["so"], "probability": 0.5}',
    '[{"reasoning": "so", "probability": 0.5}]',
    "[" * 20_000,
    '{"reasoning": "' + "x" * 40_000 + '", "probability": 0.5}',
    '{"reasoning": "\ud800", "probability": 0.5}',
]


@pytest.mark.parametrize(("content", "probability"), GOOD)
def test_a_good_answer(content: str, probability: float) -> None:
    assert read_answer(content)[0] == probability


@pytest.mark.parametrize("content", BAD, ids=map(str, range(len(BAD))))
def test_anything_else_is_none(content: str) -> None:
    with pytest.raises(AnswerInvalid):
        read_answer(content)


@given(st.text() | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["reasoning", "probability", "x"]), inner),
).map(json.dumps))  # fmt: skip
@example('{"reasoning": "", "probability": -0.0}')
def test_what_comes_out_is_a_probability_or_nothing(content: str) -> None:
    try:
        value, reasoning = read_answer(content)
    except AnswerInvalid:
        return
    assert 0.0 <= value <= 1.0 and str(value)[0] != "-"
    assert len(reasoning) <= 1_000


def test_the_schema_asked_for_is_the_one_that_is_read() -> None:
    assert ANSWER_SCHEMA["additionalProperties"] is False
    assert sorted(ANSWER_SCHEMA["required"]) == sorted(ANSWER_SCHEMA["properties"])
    body = {key: "so" if kind["type"] == "string" else 0.5
            for key, kind in ANSWER_SCHEMA["properties"].items()}  # fmt: skip
    assert read_answer(json.dumps(body)) == (0.5, "so")


def test_the_reasoning_is_made_plain() -> None:
    content = json.dumps({"reasoning": "a\u202eb\nc" + "d" * 5_000, "probability": 0.5})
    assert read_answer(content)[1].startswith("ab cddd")


# --- pooling -------------------------------------------------------------------------------------

SAMPLES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12)


@pytest.mark.parametrize("pool", POOLS)
@given(samples=SAMPLES)
def test_a_pool_lies_between_its_samples(pool: str, samples: list[float]) -> None:
    made = pooled(samples, pool)
    assert min(*samples, 1 - EDGE) - 1e-9 <= made <= max(*samples, EDGE) + 1e-9
    assert made == pooled(samples[::-1], pool)


@pytest.mark.parametrize("pool", POOLS)
@given(samples=SAMPLES)
def test_a_pool_is_symmetric_in_yes_and_no(pool: str, samples: list[float]) -> None:
    assert pooled([1 - s for s in samples], pool) == pytest.approx(1 - pooled(samples, pool))


def test_pools_by_hand() -> None:
    assert pooled([0.9, 0.1, 0.3]) == 0.3
    assert pooled([0.2, 0.8]) == pytest.approx(0.5)
    assert pooled([0.0, 0.4, 0.5, 0.6, 1.0], "trimmed") == pytest.approx(0.5)
    # logit(0.9) = 2 logit(0.75): the mean logit of 0.9 and 0.5 is that of 0.75.
    assert pooled([0.9, 0.5], "logit-mean") == pytest.approx(0.75)

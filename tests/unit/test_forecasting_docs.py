"""docs/forecasting.md says what the code does: names, limits, faults, the settings it shows."""

import re
from pathlib import Path

from fleet.clock import NS_PER_DAY, ManualClock
from fleet.config import load, settings_of
from fleet.forecasting import llm, news_api, rss, usage, web
from fleet.forecasting.llm import Sampling
from fleet.forecasting.llm_access import forecasters_from
from fleet.forecasting.llm_settings import LlmEnv, NewsEnv
from fleet.sandbox.models.faults import CATALOGUE

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "forecasting.md").read_text()
SHOWN = re.findall(r"(?:^    \w+=\S+\n)+", PAGE, re.MULTILINE)


def test_every_setting_named_is_one_and_the_table_of_faults_is_the_catalogue() -> None:
    known = {spec.key for kind in (LlmEnv, NewsEnv) for _, spec in settings_of(kind)}
    named = set(re.findall(r"\b(?:POLYAI_\w+|\w+_API_KEY|NEWSAPI_\w+)\b", PAGE))
    assert named - known == {"POLYAI_NEWS_INTERVAL_MINUTES"}
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)) == CATALOGUE


def test_the_limits_are_those_of_the_code() -> None:
    words = " ".join(PAGE.split())
    assert f"{news_api.DAY_REQUESTS_MAX} requests a UTC day" in words
    assert f"{web.BODY_BYTES_MAX >> 20} MB, {web.REDIRECTS_MAX} redirects" in words
    assert f"{web.TIMEOUT_S:.0f} s" in words
    assert news_api.STALE_NS_MAX == rss.STALE_NS_MAX == NS_PER_DAY
    assert f"kept {usage.PROMPTS_KEPT_NS // NS_PER_DAY} days" in words
    assert (llm.NEIGHBOURS, Sampling().tries) == (3, 3)


def test_the_settings_shown_make_a_forecaster(tmp_path: Path) -> None:
    assert len(SHOWN) == 3
    for block in SHOWN:
        env = dict(line.strip().split("=", 1) for line in block.splitlines())
        made = forecasters_from(load(LlmEnv, env), directory=tmp_path, clock=ManualClock(0))
        assert len(made) == 1

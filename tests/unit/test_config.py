import copy
import io
import json
import logging
import pickle
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet import config
from fleet.bots.arbhunter_settings import ArbEnv
from fleet.bots.known import KNOWN
from fleet.config import (
    ConfigError,
    Mode,
    Paths,
    Secret,
    load,
    load_all,
    pick,
    read_env_file,
    setting,
    settings_of,
    unknown_keys,
)
from fleet.domain.units import SCALE
from fleet.runtime.listener_settings import ListenerEnv
from fleet.runtime.settings import FleetSettings, PaperEnv, SandboxEnv

HIDDEN = "0xdeadbeefcafe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    size: int = setting("TOY_SIZE", config.count, "3", "how many")
    loud: bool = setting("TOY_LOUD", config.flag, "no", "whether it rings")
    key: Secret = setting("TOY_KEY", config.secret, Secret(""), "the key")

    @staticmethod
    def check(values: Mapping[str, Any]) -> list[str]:
        return (
            ["TOY_SIZE must be even when TOY_LOUD"] if values["loud"] and values["size"] % 2 else []
        )


# --- loading ------------------------------------------------------------------------------------


def test_defaults_hold_where_nothing_is_said() -> None:
    toy = load(Toy, {"TOY_SIZE": "", "OTHER": "x"})
    assert (toy.size, toy.loud, bool(toy.key)) == (3, False, False)


def test_values_are_read_and_trimmed() -> None:
    toy = load(Toy, {"TOY_SIZE": " 4 ", "TOY_LOUD": "Yes", "TOY_KEY": HIDDEN})
    assert (toy.size, toy.loud, toy.key.reveal()) == (4, True, HIDDEN)


def test_all_problems_at_once_each_with_its_cure() -> None:
    with pytest.raises(ConfigError) as caught:
        load_all(
            [FleetSettings, ArbEnv, PaperEnv],
            {
                "FLEET_MAX_DAY_LOSS_USD": "-5",
                "FLEET_TAPE": "maybe",
                "ARB_PROFILE": "wild",
                "ARB_MAX_OPEN_BUNDLES": "2.5",
                "PAPER_LATENCY_MS": "fast",
                "ARB_TRADE_SIZE": "5",
                "PAPER_MINT_MS": "5",
                "SANDBOX_COLOUR": "red",
            },
            KNOWN,
        )
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 8
    for words in (
        "FLEET_MAX_DAY_LOSS_USD='-5': expected a number that is not negative. It is the loss of",
        "FLEET_TAPE='maybe': expected true or false",
        "ARB_PROFILE='wild': expected one of low, medium, high",
        "ARB_MAX_OPEN_BUNDLES='2.5': expected a whole number",
        "PAPER_LATENCY_MS='fast': expected a whole number",
        "ARB_TRADE_SIZE is not a setting of the fleet: did you mean ARB_TRADE_SIZE_USD?",
        "PAPER_MINT_MS is not a setting of the fleet: did you mean PAPER_MINED_MS?",
        "SANDBOX_COLOUR is not a setting of the fleet: ",
    ):
        assert words in problems
    assert str(caught.value).count("\n- ") == 7


def test_a_rule_over_several_settings_is_checked_when_each_is_sound() -> None:
    with pytest.raises(ConfigError, match="must be even"):
        load(Toy, {"TOY_LOUD": "on"})
    with pytest.raises(ConfigError) as caught:
        load(Toy, {"TOY_LOUD": "on", "TOY_SIZE": "x"})
    assert len(caught.value.problems) == 1
    assert load(Toy, {"TOY_LOUD": "on", "TOY_SIZE": "2"}).size == 2


def test_keys_of_others_are_left_alone_but_not_in_our_own_file() -> None:
    strange = {"PATH": "/bin", "ABR_TRADE_SIZE_USD": "5", "arb_trade_size_usd": "5"}
    assert unknown_keys(strange, KNOWN) == []
    assert len(unknown_keys(strange, KNOWN, ours=True)) == 3
    assert "did you mean ARB_TRADE_SIZE_USD?" in unknown_keys(strange, KNOWN, ours=True)[0]


def test_places_are_no_strangers() -> None:
    assert unknown_keys({"FLEET_HOME": "/x", "FLEET_DATA": "/y"}, KNOWN) == []


def test_the_settings_of_one_type_are_picked() -> None:
    loaded = load_all([FleetSettings, SandboxEnv], {"SANDBOX_SEED": "9"}, KNOWN)
    assert pick(loaded, SandboxEnv).seed == 9


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)
def test_every_default_is_what_its_example_says(kind: type[Any]) -> None:
    defaults = load(kind, {})
    examples = load(kind, {spec.key: spec.example for _, spec in settings_of(kind)})
    for name, spec in settings_of(kind):
        if spec.parse is not config.secret:
            assert getattr(examples, name) == getattr(defaults, name), spec.key


def test_no_two_settings_share_a_key() -> None:
    keys = [spec.key for kind in KNOWN for _, spec in settings_of(kind)]
    assert len(keys) == len(set(keys))


# --- parsers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (config.flag, "TRUE", True),
        (config.flag, "off", False),
        (config.count, "0", 0),
        (config.dollars, "12.5", 1_250_000_000),
        (config.positive_dollars, "0.01", SCALE // 100),
        (config.ratio, "0.005", 500_000),
        (config.milliseconds, "60", 60_000_000),
        (config.seconds, "0.5", 500_000_000),
        (config.seconds, "30", 30_000_000_000),
        (config.port, "8788", 8788),
        (config.path, "backups", Path("backups")),
        (config.one_of("a", "b"), "B", "b"),
        (config.url("https", "http"), "http://127.0.0.1:8788/", "http://127.0.0.1:8788"),
        (config.text, "as it is", "as it is"),
    ],
)
def test_what_parsers_read(parse: Any, text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (config.flag, "2", "true or false"),
        (config.count, "-1", "whole number"),
        (config.count, "1.0", "whole number"),
        (config.count, "9" * 5_000, "whole number"),
        (config.dollars, "ten", "such as 0.005"),
        (config.dollars, "1e3", "such as 0.005"),
        (config.dollars, "nan", "such as 0.005"),
        (config.dollars, "-1", "not negative"),
        (config.positive_dollars, "0", "more than 0"),
        (config.ratio, "0.5%", "such as 0.005"),
        (config.ratio, "101", "half a percent"),
        (config.port, "0", "1 to 65535"),
        (config.port, "99999", "1 to 65535"),
        (config.path, "~nobody-of-this-name/x", "no such user"),
        (config.one_of("a", "b"), "c", "one of a, b"),
        (config.url("https"), "http://x", "begins with https://"),
        (config.url("https"), "https://", "such as https://host"),
        (config.url("https"), "https://a b", "such as https://host"),
        (config.url("https"), "https://[::1", "Invalid IPv6"),
        (config.url("https"), "https://x:70000", "Port out of range"),
    ],
)
def test_what_parsers_refuse(parse: Any, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


# --- secrets ------------------------------------------------------------------------------------


def test_a_secret_shows_itself_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    hidden = Secret(HIDDEN)
    toy = load(Toy, {"TOY_KEY": HIDDEN})
    shown = [
        repr(hidden), str(hidden), f"{hidden}", f"{hidden!r:>30}", "%s %r" % (hidden, hidden),  # noqa: UP031
        repr(toy), str([hidden]), json.dumps({"k": hidden}, default=str),
    ]  # fmt: skip
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("x").error("key %s", hidden)
    assert HIDDEN not in "".join(shown) + caplog.text
    assert "Secret(***)" in shown[0]
    assert repr(Secret("")) == "Secret()"


@pytest.mark.parametrize(
    "write",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        lambda s: pickle.dumps(s, protocol=0),
        lambda s: asdict(Toy(key=s)),
    ],
    ids=["pickle", "copy", "deepcopy", "json", "old pickle", "asdict"],
)
def test_a_secret_is_not_written_anywhere(write: Any) -> None:
    with pytest.raises(TypeError) as caught:
        write(Secret(HIDDEN))
    assert HIDDEN not in str(caught.value)


def test_a_secret_is_in_no_traceback() -> None:
    def fail(hidden: Secret) -> None:
        raise ValueError(f"cannot sign with {hidden}")

    out = io.StringIO()
    try:
        fail(Secret(HIDDEN))
    except ValueError as error:
        lines = traceback.TracebackException.from_exception(error, capture_locals=True)
        out.writelines(lines.format())
    assert "Secret(***)" in out.getvalue()
    assert f"'{HIDDEN}'" not in out.getvalue().replace(f"Secret('{HIDDEN}')", "")


def test_a_refused_secret_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_value: str) -> Secret:
        raise ValueError("expected 64 hex digits")

    monkeypatch.setattr(config, "secret", refuse)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Keyed:
        key: Secret = setting("TOY_KEY", refuse, Secret(""), "the key")

    with pytest.raises(ConfigError) as caught:
        load(Keyed, {"TOY_KEY": HIDDEN})
    assert HIDDEN not in str(caught.value)
    assert "TOY_KEY=(hidden): expected 64 hex digits" in str(caught.value)


# --- .env ---------------------------------------------------------------------------------------


def pairs(file: Path) -> Mapping[str, str | None]:
    return dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines())


def env_file(folder: Path, content: bytes = b"A=1\n", mode: int = 0o600) -> Path:
    file = folder / ".env"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_an_env_file_is_read(tmp_path: Path) -> None:
    assert read_env_file(env_file(tmp_path), pairs) == {"A": "1"}


def test_no_env_file_is_no_problem(tmp_path: Path) -> None:
    assert read_env_file(tmp_path / ".env", pairs) == {}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_an_env_file_of_others_is_refused(tmp_path: Path, mode: int) -> None:
    file = env_file(tmp_path, mode=mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {file}"):
        read_env_file(file, pairs)


def test_an_env_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read as text"):
        read_env_file(env_file(tmp_path, b"A=\xff\xfe\n"), pairs)


def test_a_folder_in_the_place_of_the_env_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="cannot be read as text"):
        read_env_file(tmp_path / ".env", pairs)


# --- paths --------------------------------------------------------------------------------------


def test_every_mode_has_a_journal_of_its_own(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    assert len({paths.journal("bot", mode) for mode in Mode}) == len(Mode)
    everything = [
        paths.journal("bot", Mode.PAPER), paths.paper_ledger("bot"), paths.lock("bot"),
        paths.journal("bot", Mode.PAPER, "polymarket"), paths.paper_ledger("bot", "polymarket"),
        paths.status("bot"), paths.tape("sandbox"), paths.fleet_db,
    ]  # fmt: skip
    assert len(set(everything)) == len(everything)
    assert all(path.is_relative_to(paths.var) for path in everything)


def test_an_address_that_may_hold_a_key_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        load(ListenerEnv, {"ELITE_RPC_WS_URLS": "ws://node.test/v2/abcdefsecret"})
    assert "abcdefsecret" not in str(caught.value)
    assert "node.test" in str(caught.value)
    assert "use wss" in str(caught.value)

"""Every check of a live start, good and bad, against a venue on a real socket."""

import asyncio
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.config import ConfigError, Paths, Secret
from fleet.engine.risk import RiskLimits
from fleet.journal.fleet import FleetState
from fleet.runtime import live_checks as checks_module
from fleet.runtime.findings import Finding, Result, exit_code, failed, passed, unknown, warned
from fleet.runtime.live_checks import LivePlan, check_libraries, live_checks
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.settings import WalletEnv
from fleet.runtime.wallet import expected_funder, funder_of, load_wallet, read_key
from fleet.venues.polymarket.chain_account import ApprovalState
from fleet.venues.polymarket.chain_contracts import Approval, Approve, required_approvals
from fleet.venues.polymarket.contracts import Exchange, SignatureType
from fleet.venues.polymarket.hosts import sandbox_hosts
from fleet.venues.port import TransportFailed
from tests.account_venue import (
    API_KEY,
    KEY,
    KEY_HEX,
    PASSPHRASE,
    SECRET,
    SPENDERS,
    AccountVenue,
    served,
)

FUNDER = "0x9999999999999999999999999999999999999999"
WALLET = WalletEnv(private_key=Secret(KEY_HEX), funder=FUNDER)


class Chain:
    """Approvals as a chain has them: all given, but those of the contracts in ``without``."""

    def __init__(self, *without: str, broken: str = "") -> None:
        self.without = without
        self.broken = broken

    async def approvals(self, owner: str) -> list[ApprovalState]:
        assert owner == FUNDER
        if self.broken:
            raise TransportFailed(self.broken, sent=True)
        return [
            ApprovalState(approval=one, given=_place(one) not in self.without)
            for one in required_approvals()
        ]


def _place(approval: Approval) -> str:
    call = approval.call
    return call.spender if isinstance(call, Approve) else call.operator


@pytest.fixture
def venue() -> Iterator[AccountVenue]:
    with served(AccountVenue()) as venue:
        yield venue


@pytest.fixture
def plan(tmp_path: Path, venue: AccountVenue) -> LivePlan:
    return LivePlan(
        paths=Paths(root=tmp_path),
        bot="arbhunter",
        clock=LiveClock(),
        hosts=venue.hosts(),
        wallet=WALLET,
        live=LiveEnv(clock_skew_max_ns=20 * NS_PER_SECOND),
        limits=RiskLimits(),
        disk_free_min_mb=1,
        allowances=Chain(),
    )


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that is bound and does not listen: nobody answers there, and nobody else takes it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def look(plan: LivePlan) -> dict[str, Finding]:
    found = asyncio.run(live_checks(plan))
    assert len({finding.name for finding in found}) == len(found)
    return {finding.name: finding for finding in found}


def only(plan: LivePlan, result: Result = Result.FAILED) -> Finding:
    """The one finding that is not good, which must be of this kind."""
    bad = [finding for finding in look(plan).values() if finding.result is not Result.OK]
    assert [finding.result for finding in bad] == [result], bad
    assert bad[0].cure
    return bad[0]


def test_all_checks_pass_and_change_nothing(plan: LivePlan, venue: AccountVenue) -> None:
    found = look(plan)
    assert [finding for finding in found.values() if finding.result is not Result.OK] == []
    assert list(found) == [
        "python", "clock", "state folder", "log folder", "disk", "settings", "kill latch", "twin",
        "libraries", "wallet lease", "live settings", "network", "venue clock", "venue version",
        "geoblock", "credentials", "wallet", "account", "approvals", "balance",
    ]  # fmt: skip
    assert exit_code(found.values()) == 0
    assert list(plan.paths.root.iterdir()) == []
    assert [line for line in venue.asked if not line.startswith("GET ")] == []
    assert found["balance"].found == "$5000.00"
    assert found["geoblock"].found == "not blocked in IE L"


def test_no_finding_shows_a_secret(plan: LivePlan, venue: AccountVenue) -> None:
    venue.down = {"/balance-allowance"}
    told = "\n".join(finding.line() for finding in look(plan).values()) + repr(plan)
    for hidden in (KEY_HEX, KEY_HEX[2:], SECRET, PASSPHRASE):
        assert hidden not in told


def test_exit_codes() -> None:
    good, remark = passed("a", "x"), warned("b", "x", "cure")
    assert exit_code([good, remark]) == 0 and remark.ok
    assert exit_code([good, unknown("c", "x", "cure")]) == 1
    assert exit_code([unknown("c", "x", "cure"), failed("d", "x", "cure")]) == 78


# --- the way to the venue -------------------------------------------------------------------------


def test_a_venue_that_is_not_there_is_unknown_and_everything_behind_it_too(
    plan: LivePlan, unused_port: int
) -> None:
    found = look(replace(plan, hosts=sandbox_hosts(unused_port)))
    bad = {name: finding for name, finding in found.items() if not finding.ok}
    assert set(bad) == {
        "network", "venue clock", "venue version", "geoblock", "credentials", "approvals", "balance",
    }  # fmt: skip
    assert {finding.result for finding in bad.values()} == {Result.UNKNOWN}
    assert "start the sandbox" in bad["network"].cure
    assert exit_code(found.values()) == 1


def test_one_host_that_does_not_answer(plan: LivePlan, unused_port: int) -> None:
    hosts = replace(plan.hosts, data_url=f"http://127.0.0.1:{unused_port}")
    finding = only(replace(plan, hosts=hosts), Result.UNKNOWN)
    assert finding.name == "network" and str(unused_port) in finding.found


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_a_clock_that_is_wrong(plan: LivePlan, venue: AccountVenue, ahead_s: int) -> None:
    venue.clock_ahead_s = ahead_s
    finding = only(plan)
    assert finding.name == "venue clock" and "NTP" in finding.cure


def test_a_clock_that_cannot_be_proven_right(plan: LivePlan) -> None:
    # Whole seconds cannot prove a tenth of one.
    live = replace(plan.live, clock_skew_max_ns=NS_PER_SECOND // 10)
    assert only(replace(plan, live=live), Result.UNKNOWN).name == "venue clock"


def test_another_version_of_the_protocol(plan: LivePlan, venue: AccountVenue) -> None:
    venue.version = 3
    assert only(plan).name == "venue version"
    venue.version = "two"
    assert only(plan, Result.UNKNOWN).name == "venue version"


def test_a_signing_domain_that_came_out_wrong(
    plan: LivePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(checks_module.DOMAINS, Exchange.NEG_RISK_V2, "00" * 32)
    finding = only(plan)
    assert finding.found == "signing domain of NEG_RISK_V2 is wrong"


def test_blocked_is_refused_and_no_answer_is_not_allowed_either(
    plan: LivePlan, venue: AccountVenue
) -> None:
    venue.geoblock = {"blocked": True, "ip": "192.0.2.1", "country": "XX", "region": ""}
    finding = only(plan)
    assert (finding.name, finding.found) == ("geoblock", "blocked in XX")
    answers: list[Any] = [{"country": "IE"}, {"blocked": "no"}, [], None]
    for answer in answers:
        venue.geoblock = answer
        assert only(plan, Result.UNKNOWN).name == "geoblock"
    hosts = replace(plan.hosts, geoblock_url="")
    found = look(replace(plan, hosts=hosts))["geoblock"]
    assert found.result is Result.UNKNOWN and "POLYMARKET_GEOBLOCK_URL" in found.cure


# --- this machine ---------------------------------------------------------------------------------


def test_local_checks_are_part_of_it(plan: LivePlan) -> None:
    with FleetState(plan.paths.fleet_db) as fleet:
        fleet.halt("test fire", "me", 1)
    assert only(plan).name == "kill latch"


def test_a_library_that_is_missing() -> None:
    assert check_libraries().ok
    finding = check_libraries({"no_such_module": "nothing"})
    assert finding.result is Result.FAILED and "make setup" in finding.cure


def test_the_lease_of_somebody_else(plan: LivePlan) -> None:
    now_ns = plan.clock.now_ns()
    with FleetState(plan.paths.fleet_db) as fleet:
        lease = fleet.acquire("live:x", "PolyAI", 4711, 60 * NS_PER_SECOND, now_ns)
    finding = only(replace(plan, lease=lease))
    assert finding.found.startswith("held by PolyAI (process 4711), ")
    ours = replace(plan, lease=lease, own_lease=lease.token)
    assert look(ours)["wallet lease"].found == f"ours, number {lease.token}"
    assert look(replace(plan, lease=replace(lease, expires_ns=1)))["wallet lease"].found == "free"


# --- key and wallet -------------------------------------------------------------------------------


def test_no_key_and_no_funder(plan: LivePlan) -> None:
    found = look(replace(plan, wallet=WalletEnv()))
    assert "POLYMARKET_PRIVATE_KEY" in found["live settings"].cure
    assert found["account"].result is Result.UNKNOWN
    finding = look(replace(plan, wallet=WalletEnv(private_key=Secret(KEY_HEX))))["live settings"]
    assert "POLYMARKET_FUNDER" in finding.cure and finding.result is Result.FAILED


def test_the_key_in_a_file_of_ours_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY_HEX + "\nfor the test wallet\n")
    file.chmod(0o600)
    assert read_key(WalletEnv(key_file=file)).address == KEY.address
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_key(WalletEnv(key_file=file))
    with pytest.raises(ConfigError, match="No such file"):
        read_key(WalletEnv(key_file=tmp_path / "none"))


@pytest.mark.parametrize("text", [b"not a key", b"\xff\xfe", b"0x" + b"02" * 31, b"", b"00" * 32])
def test_what_is_no_key_is_not_quoted(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(text)
    file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_key(WalletEnv(key_file=file))
    told = str(caught.value) + repr(caught.value.__cause__)
    assert "64 hex digits" in told
    assert not text or text.decode("latin-1") not in told


def test_a_bots_own_wallet_is_read_from_its_file_alone(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    env = tmp_path / ".env"
    env.write_text(f"POLYMARKET_PRIVATE_KEY={'11' * 32}\nPOLYMARKET_FUNDER={FUNDER}\n")
    env.chmod(0o600)
    own = paths.wallet_file("polyai")
    own.parent.mkdir()
    own.write_text(f"POLYMARKET_PRIVATE_KEY={KEY_HEX}\nPOLYMARKET_WALLET=eoa\n")
    own.chmod(0o600)
    wallet = load_wallet(paths, {"POLYMARKET_WALLET": "safe"}, "polyai")
    assert read_key(wallet).address == KEY.address
    assert (wallet.funder, wallet.signature_type) == (None, SignatureType.EOA)
    assert read_key(load_wallet(paths, {}, "arbhunter")).address != KEY.address
    own.write_text(f"POLYMARKET_PRIVATE_KEY={KEY_HEX}\nARB_MODE=live\n")
    with pytest.raises(ConfigError, match="ARB_MODE"):
        load_wallet(paths, {}, "polyai")
    own.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_wallet(paths, {}, "polyai")


def test_the_wallets_settings_come_from_env_and_environment(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text(f"POLYMARKET_PRIVATE_KEY={KEY_HEX}\nPOLYMARKET_FUNDER={FUNDER}\n")
    env.chmod(0o600)
    wallet = load_wallet(Paths(root=tmp_path), {"POLYMARKET_WALLET": "safe"})
    assert read_key(wallet).address == KEY.address
    assert (wallet.funder, wallet.signature_type) == (FUNDER, SignatureType.POLY_GNOSIS_SAFE)
    assert KEY_HEX not in repr(wallet)
    env.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_wallet(Paths(root=tmp_path), {})
    env.unlink()
    with pytest.raises(ConfigError, match="keep one of them"):
        load_wallet(
            Paths(root=tmp_path),
            {"POLYMARKET_PRIVATE_KEY": KEY_HEX, "POLYMARKET_KEY_FILE": os.devnull},
        )
    with pytest.raises(ConfigError, match="go together"):
        load_wallet(Paths(root=tmp_path), {"POLYMARKET_API_KEY": API_KEY})


@pytest.mark.parametrize(
    ("signer", "safe"),
    [
        # Two wallets named in public bug reports, and what the official client derived for them.
        ("0xBBc264c10F54A61607A31B53358a5A87d4B045be", "0xEFae63145ffb73Ab047e578324bcA9BaABE5E1Ad"),
        ("0x2Bc8acFDFaD41ec4aD399dCAC0E09e237bB7bBa8", "0x1Ca9521aC17f434A1fCe224c7584a0B62882cFAf"),
    ],
)  # fmt: skip
def test_the_safe_of_a_key(signer: str, safe: str) -> None:
    assert expected_funder(SignatureType.POLY_GNOSIS_SAFE, signer) == safe


def test_the_funder_of_each_kind_of_wallet(plan: LivePlan) -> None:
    assert funder_of(WalletEnv(wallet="eoa"), KEY.address) == KEY.address
    for kind in ("eoa", "proxy", "safe"):
        wallet = replace(WALLET, wallet=kind)
        finding = only(replace(plan, wallet=wallet))
        expected = expected_funder(wallet.signature_type, KEY.address)
        assert finding.name == "wallet" and f"is at {expected}" in finding.cure
    own = look(replace(plan, wallet=replace(WALLET, funder=KEY.address), allowances=None))["wallet"]
    assert own.result is Result.FAILED and "POLYMARKET_WALLET=eoa" in own.cure


# --- the account ----------------------------------------------------------------------------------


def test_a_wallet_without_an_api_key_is_told_how_to_get_one(
    plan: LivePlan, venue: AccountVenue
) -> None:
    venue.has_api_key = False
    found = look(plan)
    assert found["credentials"].result is Result.FAILED
    assert "--create-api-key" in found["credentials"].cure
    assert found["balance"].result is Result.UNKNOWN
    assert venue.has_api_key is False


def test_a_configured_api_key_is_used_as_it_is(plan: LivePlan, venue: AccountVenue) -> None:
    given = replace(
        WALLET, api_key=API_KEY, api_secret=Secret(SECRET), api_passphrase=Secret(PASSPHRASE)
    )
    found = look(replace(plan, wallet=given))
    assert found["credentials"].found == f"API key {API_KEY}, configured"
    assert not any("derive" in line for line in venue.asked)
    wrong = replace(given, api_passphrase=Secret("wrong"))
    finding = look(replace(plan, wallet=wrong))["credentials"]
    assert finding.result is Result.FAILED and "POLYMARKET_API_KEY" in finding.cure
    broken = replace(given, api_secret=Secret("%%%"))
    finding = look(replace(plan, wallet=broken))["credentials"]
    assert (
        finding.result is Result.FAILED and "base64" in finding.cure and "%%%" not in finding.cure
    )


def test_a_venue_in_trouble_is_no_proof_against_the_key(
    plan: LivePlan, venue: AccountVenue
) -> None:
    venue.down = {"/auth/derive-api-key"}
    assert look(plan)["credentials"].result is Result.UNKNOWN
    venue.down = {"/auth/ban-status/closed-only"}
    assert only(plan, Result.UNKNOWN).name == "account"
    venue.down = {"/balance-allowance"}
    found = look(plan)
    assert {found[n].result for n in ("approvals", "balance")} == {Result.UNKNOWN}


def test_an_account_that_may_only_close(plan: LivePlan, venue: AccountVenue) -> None:
    venue.closed_only = True
    assert only(plan).found == "close only"


def test_approvals_by_the_chain(plan: LivePlan) -> None:
    finding = only(replace(plan, allowances=Chain(SPENDERS[3])))
    assert finding.found == (
        "missing: pUSD to split in neg-risk markets,"
        " tokens to merge, redeem and convert in neg-risk markets"
    )
    broken = Chain(broken="the node is gone")
    assert only(replace(plan, allowances=broken), Result.UNKNOWN).found == "the node is gone"


def test_approvals_by_the_venues_cache_alone_leave_the_tokens_untold(
    plan: LivePlan, venue: AccountVenue
) -> None:
    finding = only(replace(plan, allowances=None), Result.UNKNOWN)
    assert finding.found.count("tokens to ") == 5 and "pUSD" not in finding.found
    venue.allowances.pop(SPENDERS[3])
    finding = only(replace(plan, allowances=None), Result.UNKNOWN)
    assert "pUSD to split in neg-risk markets" in finding.found
    # What is left of it will run out.
    venue.allowances = dict.fromkeys(venue.allowances, "5000000")
    finding = only(replace(plan, allowances=None))
    assert finding.found.startswith("missing: pUSD to buy in standard markets")
    venue.allowances = dict.fromkeys(venue.allowances, "plenty")
    assert look(plan)["approvals"].result is Result.UNKNOWN


@pytest.mark.parametrize(
    ("balance", "result", "word"),
    [
        ("0", Result.FAILED, "deposit"),
        ("249999999", Result.FAILED, "deposit"),
        ("250000000", Result.WARNED, "wallet's limit"),
        ("1999999999", Result.WARNED, "wallet's limit"),
        ("2000000000", Result.OK, ""),
        ("5000000000", Result.OK, ""),
        ("5000000001", Result.WARNED, "LIVE_WALLET_MAX_USD"),
        ("-1", Result.UNKNOWN, "again"),
    ],
)
def test_the_balance_against_the_limits(
    plan: LivePlan, venue: AccountVenue, balance: str, result: Result, word: str
) -> None:
    venue.balance = balance
    finding = look(plan)["balance"]
    assert finding.result is result and word in finding.cure


def test_findings_of_the_caller_come_last(plan: LivePlan) -> None:
    extra = [failed("parity", "NOT YET", "let paper run")]
    found = asyncio.run(live_checks(replace(plan, extra=extra)))
    assert found[-1] is extra[0]

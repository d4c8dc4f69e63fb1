"""What the venue knows of our account: login, wallet, approvals and money, each as a finding.

Amounts of the venue are base units (1e-6); those shown are dollars. An approval that nobody could
tell us of is unknown, not missing, and not there either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from fleet.config import ConfigError
from fleet.domain.units import Cash, format_dollars
from fleet.engine.risk import RiskLimits
from fleet.runtime.findings import Finding, failed, passed, unknown, warned
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.settings import WalletEnv
from fleet.runtime.venue_probe import VenueProbe
from fleet.runtime.wallet import expected_funder, funder_of
from fleet.venues.polymarket.amounts import BASE_UNIT
from fleet.venues.polymarket.auth import ApiCredentials
from fleet.venues.polymarket.chain_account import ALLOWANCE_MIN, ApprovalState
from fleet.venues.polymarket.chain_contracts import Approval, Approve, required_approvals
from fleet.venues.polymarket.keys import SecretKey, SigningError
from fleet.venues.port import RequestRefused, VenueError

APPROVE: Final = (
    "approve it once: deposit or trade by hand on polymarket.com, or set the approvals with the"
    " official client; docs/live.md, 'The wallet', lists them"
)
LATER: Final = "look again in a minute"


class AllowanceReads(Protocol):
    """Approvals as the chain has them; ``ChainAccount`` is one."""

    async def approvals(self, owner: str) -> Sequence[ApprovalState]:
        """Every approval that is needed, given or not. Raises ``VenueError``."""
        ...


class Asked(Protocol):
    """What the account checks need to know of the plan they are part of."""

    @property
    def live(self) -> LiveEnv:
        """The gate's settings."""
        ...

    @property
    def limits(self) -> RiskLimits:
        """The limits of the stage the bot would start at."""
        ...

    @property
    def allowances(self) -> AllowanceReads | None:
        """The chain, if it can be asked."""
        ...


async def account_checks(
    probe: VenueProbe, wallet: WalletEnv, key: SecretKey, plan: Asked
) -> list[Finding]:
    """Login, wallet, permission, approvals and balance, as far as each can be asked."""
    credentials, login = await check_login(probe, wallet, key)
    funder = funder_of(wallet, key.address)
    found = [login, check_funder(wallet, key.address)]
    if credentials is None or funder is None:
        why = "not looked at: there is no login to the venue"
        return [*found, unknown("approvals", why, LATER), unknown("balance", why, LATER)]
    found.append(await check_permission(probe, credentials))
    try:
        held = await probe.collateral(credentials, wallet.signature_type)
        cash = Cash(held.amount() * BASE_UNIT)
        venue_says = held.allowed()
    except VenueError as error:
        why = str(error)
        return [*found, unknown("approvals", why, LATER), unknown("balance", why, LATER)]
    found.append(await check_approvals(funder, venue_says, plan.allowances))
    found.append(check_balance(cash, plan.limits, plan.live.wallet_max))
    return found


async def check_login(
    probe: VenueProbe, wallet: WalletEnv, key: SecretKey
) -> tuple[ApiCredentials | None, Finding]:
    """Whether the key, or the configured API key, is let in; the credentials, if so."""
    try:
        credentials = configured(wallet, key)
        source = "configured" if credentials else "derived"
        if credentials is None:
            credentials = await probe.derive_api_key(key)
        known = await probe.api_keys(credentials)
    except ConfigError as error:
        return None, failed("credentials", "not usable", "; ".join(error.problems))
    except RequestRefused as error:
        return None, _login_refused(error)
    except VenueError as error:
        return None, unknown("credentials", str(error), LATER)
    if credentials.api_key not in known:
        cure = (
            "the API key is another wallet's: take POLYMARKET_API_KEY, POLYMARKET_API_SECRET and"
            " POLYMARKET_API_PASSPHRASE out of .env, then they are derived from the key"
        )
        return None, failed("credentials", f"API key {credentials.api_key} is not ours", cure)
    return credentials, passed("credentials", f"API key {credentials.api_key}, {source}")


def _login_refused(error: RequestRefused) -> Finding:
    if error.status in {400, 404}:
        cure = "if the wallet has no API key yet, run `fleet doctor --create-api-key` once"
        return failed("credentials", str(error), cure)
    if error.status in {401, 403}:
        cure = (
            "check POLYMARKET_PRIVATE_KEY and, if set, POLYMARKET_API_KEY with its secret and"
            " passphrase; check this machine's clock"
        )
        return failed("credentials", str(error), cure)
    return unknown("credentials", str(error), LATER)


def configured(wallet: WalletEnv, key: SecretKey) -> ApiCredentials | None:
    """The API key of the settings; nothing when it is to be derived. Raises ``ConfigError``."""
    if wallet.api_key is None:
        return None
    try:
        return ApiCredentials(
            address=key.address,
            api_key=wallet.api_key,
            secret=wallet.api_secret.reveal(),
            passphrase=wallet.api_passphrase.reveal(),
        )
    except SigningError as error:
        problem = f"POLYMARKET_API_KEY: {error}"
    raise ConfigError([problem])


def check_funder(wallet: WalletEnv, signer: str) -> Finding:
    """Whether the funds can be where the settings say, for this key and kind of wallet."""
    funder = funder_of(wallet, signer)
    expected = expected_funder(wallet.signature_type, signer)
    found = f"{wallet.wallet} wallet {funder} of key {signer}"
    if funder is None or (expected is not None and funder != expected):
        cure = (
            f"a {wallet.wallet} wallet of this key is at {expected}: correct POLYMARKET_FUNDER,"
            " POLYMARKET_WALLET or the key"
        )
        return failed("wallet", found, cure)
    if expected is None and funder == signer:
        cure = (
            "POLYMARKET_FUNDER is the key's own address: set it to the wallet's, or"
            " POLYMARKET_WALLET=eoa"
        )
        return failed("wallet", found, cure)
    return passed("wallet", found)


async def check_permission(probe: VenueProbe, credentials: ApiCredentials) -> Finding:
    """Whether the account may open positions."""
    try:
        closed_only = await probe.closed_only(credentials)
    except VenueError as error:
        return unknown("account", str(error), LATER)
    if closed_only:
        cure = "the venue lets this account only close positions: ask its support, stay on paper"
        return failed("account", "close only", cure)
    return passed("account", "may trade")


async def check_approvals(
    owner: str, venue_says: Mapping[str, int], chain: AllowanceReads | None
) -> Finding:
    """Whether exchanges and adapters may take pUSD and move tokens.

    The chain is asked if it can be. Without it the venue's cache tells of pUSD, of the contracts it
    names, and of the tokens nobody does.
    """
    try:
        states = _cached(venue_says) if chain is None else await chain.approvals(owner)
    except VenueError as error:
        return unknown("approvals", str(error), LATER)
    missing = [_what(state.approval) for state in states if state.given is False]
    untold = [_what(state.approval) for state in states if state.given is None]
    if missing:
        return failed("approvals", f"missing: {', '.join(missing)}", APPROVE)
    if untold:
        cure = "let the chain be asked (its RPC address), or look at the approvals by hand"
        return unknown("approvals", f"nobody tells of: {', '.join(untold)}", cure)
    return passed("approvals", f"{len(states)} of {owner}, all given")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cached:
    approval: Approval
    given: bool | None


def _cached(venue_says: Mapping[str, int]) -> list[_Cached]:
    """The approvals as far as the venue's own answer tells of them."""
    states = []
    for approval in required_approvals():
        allowed = None
        if isinstance(approval.call, Approve):
            allowed = venue_says.get(approval.call.spender.lower())
        given = None if allowed is None else allowed >= ALLOWANCE_MIN
        states.append(_Cached(approval=approval, given=given))
    return states


def _what(approval: Approval) -> str:
    what = "pUSD" if isinstance(approval.call, Approve) else "tokens"
    return f"{what} to {approval.purpose}"


def check_balance(cash: Cash, limits: RiskLimits, wallet_max: Cash) -> Finding:
    """Whether there is money for one whole order, and neither too little nor too much of it.

    Less than one order: failed. Less than the wallet's limit: the limit cannot be used up. More
    than ``wallet_max``: a key on a server guards more than it should. Both only warn: orders are
    held to free cash and to the limits in any case.
    """
    found = f"${format_dollars(cash)}"
    if cash < limits.max_order_notional:
        cure = (
            f"one order may be ${format_dollars(limits.max_order_notional)}: deposit pUSD, or lower"
            " the bot's limits"
        )
        return failed("balance", found, cure)
    if cash > wallet_max:
        cure = f"keep what is above LIVE_WALLET_MAX_USD={format_dollars(wallet_max)} elsewhere"
        return warned("balance", found, cure)
    if cash < limits.max_wallet_exposure:
        cure = (
            f"the wallet's limit is ${format_dollars(limits.max_wallet_exposure)}, which this money"
            " cannot fill: deposit, or leave it at that"
        )
        return warned("balance", found, cure)
    return passed("balance", found)

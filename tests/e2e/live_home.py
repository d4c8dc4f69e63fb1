"""A fleet home that may trade live at its own sandbox: a funded wallet, parity shown, a phrase.

Nothing is real money: the exchange is the sandbox, the wallet's key is made up. What is compared at
the end is told by two programs that share no code: the bot's journal, and the exchange's ledger.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from py_clob_client_v2.client import ClobClient

from fleet.clock import NS_PER_DAY, NS_PER_SECOND, LiveClock
from fleet.config import Mode
from fleet.domain import events as ev
from fleet.domain.commands import BundleId, ClientOrderId
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.engine.state import State, fold
from fleet.journal.store import Entry, JournalReader
from fleet.runtime.live_gate import expected_phrase
from fleet.runtime.parity_store import ParityStore, Shadow
from fleet.venues.polymarket.keys import SecretKey
from tests.chaos_checks import same_holdings
from tests.e2e.fleet_home import FleetHome

KEY: Final = "01" * 32
WALLET: Final = SecretKey(bytes.fromhex(KEY)).address
CENT: Final = SCALE // 100
PARITY_DAYS, PARITY_ORDERS = 10, 20


class LiveHome(FleetHome):
    """A home whose bot is started with ``live``."""

    def __init__(
        self, root: Path, *, slug: str = "arbhunter", name: str = "ArbHunter", **settings: str
    ) -> None:
        wallet = {"POLYMARKET_PRIVATE_KEY": KEY, "POLYMARKET_WALLET": "eoa"}
        super().__init__(root, slug=slug, **{**wallet, **settings})
        self.name = name
        self.origin = f"http://127.0.0.1:{self.port}"

    # --- what a live start asks for -----------------------------------------------------------

    def show_parity(self) -> None:
        """Ten days of paper orders of which the quotes kept all."""
        file = self.paths.parity(self.slug, Mode.PAPER, "sandbox")
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ParityStore(file, bot=self.slug, mode="paper", feed="sandbox") as store:
            now_ns = LiveClock().now_ns()
            store.write([
                _kept(f"{day}-{number}", now_ns - day * NS_PER_DAY - number * NS_PER_SECOND)
                for day in range(1, PARITY_DAYS + 1)
                for number in range(PARITY_ORDERS)
            ])  # fmt: skip

    def deposit(self, dollars: str = "100000") -> None:
        """Money for the wallet, and every approval."""
        body = {"wallet": WALLET, "amount": dollars}
        assert httpx.post(f"{self.origin}/sandbox/deposit", json=body).status_code == 200

    def admit(self) -> None:
        """All of it, with the sandbox running: parity, money, the API key."""
        self.show_parity()
        self.deposit()
        made = self.fleet("doctor", "--bot", self.name, "--create-api-key")
        assert made.returncode == 0, made.stdout + made.stderr

    def secrets(self) -> tuple[str, ...]:
        """What may stand in ``.env`` and nowhere else, with the sandbox running."""
        client = ClobClient(f"{self.origin}/clob", 137, f"0x{KEY}", None, 0, WALLET)
        made = client.derive_api_key()
        return (KEY, made.api_secret, made.api_passphrase)

    def fault(self, name: str, **rule: object) -> None:
        """Put one of the sandbox's faults in force."""
        answer = httpx.post(f"{self.origin}/sandbox/faults", json={"name": name, **rule})
        assert answer.status_code == 200, answer.text

    def heal(self) -> None:
        """End every fault."""
        assert httpx.delete(f"{self.origin}/sandbox/faults").status_code == 200

    @contextmanager
    def live(self, *arguments: str, phrase: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """The bot live, confirmed for the UTC day it is now unless ``phrase`` says otherwise."""
        said = phrase or expected_phrase(self.name, LiveClock().now_ns())
        self.env["LIVE_CONFIRM"] = said
        with self.bot("--mode", "live", "--feed", "sandbox", *arguments) as process:
            yield process

    def refused(self, *arguments: str, phrase: str = "", within_s: float = 30.0) -> tuple[int, str]:
        """A live start that must end by itself: exit code, and what it printed and logged."""
        out = self.paths.logs / f"{self.slug}-out.log"
        before = len(out.read_text()) if out.exists() else 0
        logged = len(self.log())
        with self.live(*arguments, phrase=phrase) as process:
            code = process.wait(within_s)
        return code, out.read_text()[before:] + self.log()[logged:]

    # --- the two stories ----------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """The live journal, each entry checked."""
        with JournalReader(self.paths.journal(self.slug, Mode.LIVE, "sandbox")) as reader:
            return list(reader.read())

    def events(self) -> list[ev.Event]:
        """The events of the live journal."""
        return [entry.event for entry in self.entries()]

    def folded(self) -> State:
        """What the live journal folds to."""
        return fold(self.events())

    def ledger(self) -> dict[str, Any]:
        """What the exchange holds for the wallet."""
        found: dict[str, Any] = httpx.get(f"{self.origin}/sandbox/wallet/{WALLET}").json()
        return found

    def agree(self) -> State:
        """Journal and ledger hold the same, to the last unit, with the sandbox running and the bot
        stopped; trades may still have to be mined. Raises ``Disproved``.
        """
        state, ledger = self.folded(), self.ledger()
        tokens = {token: int(amount) for token, amount in ledger["tokens"].items()}
        same_holdings(state, cash=int(ledger["cash"]), tokens=tokens)
        return state


def _kept(name: str, sent_ns: int) -> Shadow:
    qty, cash = Qty(10 * SCALE), Cash(5 * SCALE)
    return Shadow(
        order_id=ClientOrderId(f"p{name}"), bundle_id=BundleId(f"b{name}"), sent_ns=sent_ns,
        latency_ns=1, lag_ns=1, instrument_id=InstrumentId("1"), side=Side.BUY,
        price=Price(50 * CENT), tick=Price(CENT), qty=qty, fill_qty=qty, fill_cash=cash,
        ended=True, quote_qty=qty, quote_cash=cash, firm_qty=qty,
    )  # fmt: skip

"""Seeded market-channel frames of one binary market, the same bytes for every program measured.

The shape is the venue's (docs/polymarket.md): ``price_change`` frames whose entries come in
mirrored pairs (BUY YES at p is SELL NO at 1 - p), and one frame in a hundred a ``book`` snapshot of
one of the two tokens. The books never cross and YES + NO never costs less than a dollar, so a
correct program decides nothing on any of them.

Used as a library by the measurements and as a program: ``frames.py FILE`` writes one frame a line.
Standard library only: it also runs in the peers' environment.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path

MARKET = "0x5f65177b394277fd294cd75650044e32ba009a95022d88a0c1d565897d72f8f1"
YES = "71321045679252212594626385532706912750332728571942532289631379312455583992563"
NO = "52114319501245915516055106046884209969926127482827954674443846427813813222426"
TICKS = 100
FIRST_MS = 1_760_000_000_000
# In the six recorded games looked at (2025-06), 79 to 88 % of the size texts of a game had occurred in it
# before, among some 1,200 different ones.
FRESH = 0.17
POOL = 1_200


class MirroredBook:
    """The YES book of a market in cents; the NO book is its mirror image."""

    def __init__(self, rng: random.Random) -> None:
        """Fill every level below ``mid`` with bids and every other with asks."""
        self.rng = rng
        self.mid = 50
        self.gap: tuple[str, int] | None = None
        self.known: deque[int] = deque(maxlen=POOL)
        self.sizes = {tick: self._size() for tick in range(1, TICKS)}

    def _size(self) -> int:
        """A size in hundredths of a share; four in five have been seen before."""
        if len(self.known) < POOL or self.rng.random() < FRESH:
            self.known.append(self.rng.randrange(500, 500_000))
            return self.known[-1]
        return self.rng.choice(self.known)

    def step(self, orders: int) -> list[tuple[str, int, int]]:
        """Level changes of the YES book by ``orders`` orders: (side, tick, new size in hundredths)."""
        return [self._change() for _ in range(orders)]

    def _change(self) -> tuple[str, int, int]:
        if self.gap is not None:
            (side, tick), self.gap = self.gap, None
            self.sizes[tick] = self._size()
            return side, tick, self.sizes[tick]
        return self._take() if self.rng.random() < 0.1 else self._resize()

    def _take(self) -> tuple[str, int, int]:
        """The best level of one side is taken; the next change fills its place from the other."""
        step = 1 if self.rng.random() < 0.5 else -1
        if not 30 <= self.mid + step <= 70:
            step = -step
        tick = self.mid if step > 0 else self.mid - 1
        gone, comes = ("SELL", "BUY") if step > 0 else ("BUY", "SELL")
        self.mid += step
        self.sizes[tick] = 0
        self.gap = comes, tick
        return gone, tick, 0

    def _resize(self) -> tuple[str, int, int]:
        distance = min(int(self.rng.expovariate(0.25)), 25)
        bid = self.rng.random() < 0.5
        tick = self.mid - 1 - distance if bid else self.mid + distance
        size = 0 if distance > 2 and self.rng.random() < 0.1 else self._size()
        self.sizes[tick] = size
        return ("BUY" if bid else "SELL", tick, size)

    def best(self) -> tuple[int, int]:
        """Best bid and ask of YES, in ticks."""
        bid = next(t for t in range(self.mid - 1, 0, -1) if self.sizes[t])
        ask = next(t for t in range(self.mid, TICKS) if self.sizes[t])
        return bid, ask


def price(tick: int) -> str:
    """A tick of a cent as the venue writes it: 0.5 and 0.07, without trailing zeros."""
    return f"0.{tick:02d}".rstrip("0")


def size(hundredths: int) -> str:
    """Shares as the venue writes them, without trailing zeros."""
    whole, rest = divmod(hundredths, 100)
    return f"{whole}.{rest:02d}".rstrip("0") if rest else str(whole)


def _change_frame(book: MirroredBook, rng: random.Random, timestamp_ms: int, orders: int) -> str:
    """One message of some orders' changes: two entries each, as both books show them."""
    changes = book.step(orders)
    bid, ask = book.best()
    entries = []
    for side, tick, hundredths in changes:
        for token, shown, at, top in (
            (YES, side, tick, (bid, ask)),
            (NO, "SELL" if side == "BUY" else "BUY", TICKS - tick, (TICKS - ask, TICKS - bid)),
        ):
            entries.append(
                f'{{"asset_id":"{token}","price":"{price(at)}","size":"{size(hundredths)}",'
                f'"side":"{shown}","hash":"{rng.getrandbits(160):040x}",'
                f'"best_bid":"{price(top[0])}","best_ask":"{price(top[1])}"}}'
            )
    return (
        f'{{"market":"{MARKET}","price_changes":[{",".join(entries)}],'
        f'"timestamp":"{timestamp_ms}","event_type":"price_change"}}'
    )


def _snapshot_frame(book: MirroredBook, rng: random.Random, token: str, timestamp_ms: int) -> str:
    bids = [(t, book.sizes[t]) for t in range(1, book.mid) if book.sizes[t]]
    asks = [(t, book.sizes[t]) for t in range(TICKS - 1, book.mid - 1, -1) if book.sizes[t]]
    if token == NO:
        bids, asks = [(TICKS - t, s) for t, s in asks], [(TICKS - t, s) for t, s in bids]
    texts = (
        ",".join(f'{{"price":"{price(t)}","size":"{size(s)}"}}' for t, s in levels)
        for levels in (bids, asks)
    )
    return (
        f'{{"market":"{MARKET}","asset_id":"{token}","timestamp":"{timestamp_ms}",'
        f'"hash":"{rng.getrandbits(160):040x}","bids":[{next(texts)}],"asks":[{next(texts)}],'
        f'"tick_size":"0.01","event_type":"book","last_trade_price":"{price(book.mid)}"}}'
    )


def frames(count: int, seed: int = 1, orders: int = 2) -> Iterator[bytes]:
    """``count`` frames of ``2 * orders`` changes; the first two are the snapshots of YES and NO."""
    rng = random.Random(seed)
    book = MirroredBook(rng)
    timestamp_ms = FIRST_MS
    for index in range(count):
        timestamp_ms += rng.randrange(1, 40)
        if index < 2 or index % 100 == 0:
            token = (YES, NO)[index if index < 2 else index // 100 % 2]
            yield _snapshot_frame(book, rng, token, timestamp_ms).encode()
        else:
            yield _change_frame(book, rng, timestamp_ms, orders).encode()


def main() -> None:
    """Write the frames to a file, one a line, and say what they are."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--orders", type=int, default=2, help="orders a frame, two entries each")
    args = parser.parse_args()
    digest, total = hashlib.sha256(), 0
    with args.file.open("wb") as out:
        for frame in frames(args.count, args.seed, args.orders):
            out.write(frame + b"\n")
            digest.update(frame)
            total += len(frame)
    print(f"{args.count} frames, {total / args.count:.0f} bytes mean, sha256 {digest.hexdigest()}")


if __name__ == "__main__":
    main()

"""Faults of requests: the middleware that carries them out, and the control API that sets them.

``disturb`` stands before everything else the server does, so that what it answers instead is what
the client sees. It asks ``Faults`` once a request and never touches ``/sandbox`` or a websocket.
An exchange that was asked has acted: its handler always runs to its end, whatever the client hears.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from fleet.sandbox.faults import UNDISTURBED, Faults, Outcome, Refusal
from fleet.sandbox.faults_catalogue import CATALOGUE, FaultRule, fault_named
from fleet.sandbox.market_frames import book_hash, ms_text
from fleet.sandbox.request_reading import ApiError, json_answer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SPARED: Final = ("/sandbox", "/ws/")
GATEWAY_PAGE: Final = "<html><head><title>502 Bad Gateway</title></head><body></body></html>"
STALE_SIDES: Final = {
    "bids": [{"price": "0.01", "size": "1000"}],
    "asks": [{"price": "0.99", "size": "1000"}],
}


class RuleFrame(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One rule as it is posted."""

    name: str
    rate: float = 1.0
    times: int = 0
    after_s: float = 0.0
    for_s: float = 0.0
    where: list[str] = msgspec.field(default_factory=list)
    seconds: float | None = None
    then_seconds: float = 120.0


class PlanFrame(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Several rules, and the seed of their chances."""

    seed: int | None = None
    faults: list[RuleFrame] = msgspec.field(default_factory=list)


class _PostOnly(msgspec.Struct):
    """All that is looked at in an order, to know whether post-only mode lets it through."""

    postOnly: bool = False  # noqa: N815 - the venue's spelling


class FaultyRequests:
    """The middleware and the routes of one ``Faults``."""

    def __init__(self, faults: Faults, now_ns: Callable[[], int], *, started_ns: int) -> None:
        """``started_ns`` is what a stale book is dated."""
        self._faults = faults
        self._now_ns = now_ns
        self._started_ns = started_ns

    @web.middleware
    async def disturb(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve a request as its fate says."""
        if not self._faults.active or request.path.startswith(SPARED):
            return await handler(request)
        fate = self._faults.request(place_of(request), self._now_ns())
        if fate is UNDISTURBED:
            return await handler(request)
        # Read first: the client hands over its whole request before anything goes wrong here.
        body = await request.read()
        await asyncio.sleep(fate.before_s)
        outcome, refusal = fate.outcome, fate.refusal
        if refusal is not None and refusal.unless_post_only and _post_only(body):
            outcome, refusal = Outcome.HANDLED, None
        answer: web.StreamResponse | None = None
        if outcome in {Outcome.HANDLED, Outcome.UNANSWERED, Outcome.MISREPORTED}:
            answer = await handler(request)
            if fate.stale_book:
                answer = self._stale(answer)
        if outcome in {Outcome.LOST, Outcome.UNANSWERED}:
            await asyncio.sleep(fate.hold_s)
            return _hang_up(request)
        await asyncio.sleep(fate.after_s)
        if refusal is not None:
            return _refused(refusal)
        return _hang_up(request) if answer is None else answer

    def _stale(self, answer: web.StreamResponse) -> web.StreamResponse:
        if not isinstance(answer, web.Response) or answer.status != 200:
            return answer
        books = msgspec.json.decode(answer.body)  # type: ignore[arg-type] # bytes, as written here
        each = books if isinstance(books, list) else [books]
        for book in each:
            book.update(STALE_SIDES, timestamp=ms_text(self._started_ns), last_trade_price="")
            book["hash"] = book_hash(book)
        return json_answer(books)

    # --- the control API ----------------------------------------------------------------------

    def add_to(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Register ``prefix`` (``/sandbox/faults``) and ``prefix/{name}``."""
        router.add_get(prefix, self._list)
        router.add_post(prefix, self._put)
        router.add_delete(prefix, self._clear)
        router.add_delete(f"{prefix}/{{name}}", self._clear)

    async def _list(self, _: web.Request) -> web.Response:
        known = {fault.value: _spec_object(fault.value) for fault in CATALOGUE}
        return json_answer(self._faults.report() | {"known": known})

    async def _put(self, request: web.Request) -> web.Response:
        try:
            seed, rules = read_plan(await request.read())
        except ValueError as error:
            raise ApiError(400, str(error)) from None
        if seed is not None:
            self._faults.reseed(seed)
        for rule in rules:
            self._faults.put(rule, self._now_ns())
        return json_answer(self._faults.report())

    async def _clear(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name")
        try:
            self._faults.clear(None if name is None else fault_named(name))
        except ValueError as error:
            raise ApiError(404, str(error)) from None
        return json_answer(self._faults.report())


def place_of(request: web.Request) -> str:
    """``METHOD /path`` as it was registered: ``GET /clob/data/order/{order_id}``."""
    resource = request.match_info.route.resource
    return f"{request.method} {request.path if resource is None else resource.canonical}"


def read_plan(body: bytes) -> tuple[int | None, list[FaultRule]]:
    """The seed and the rules of a posted body or a file. Raises ``ValueError``."""
    try:
        if b'"faults"' in body or b'"name"' not in body:
            plan = msgspec.json.decode(body, type=PlanFrame)
        else:
            plan = PlanFrame(faults=[msgspec.json.decode(body, type=RuleFrame)])
    except msgspec.MsgspecError as error:
        text = 'write {"name": ..., "rate": ...} or {"seed": ..., "faults": [...]}'
        raise ValueError(f"{error}: {text}") from None
    return plan.seed, [_rule(frame) for frame in plan.faults]


def _rule(frame: RuleFrame) -> FaultRule:
    return FaultRule(
        fault=fault_named(frame.name),
        rate=frame.rate,
        times=frame.times,
        after_s=frame.after_s,
        for_s=frame.for_s,
        where=tuple(frame.where),
        seconds=frame.seconds,
        then_seconds=frame.then_seconds,
    )


def _spec_object(name: str) -> dict[str, Any]:
    spec = CATALOGUE[fault_named(name)]
    return {
        "text": spec.text,
        "chance": spec.chance,
        "where": list(spec.where),
        "seconds": spec.seconds,
    }


def _refused(refusal: Refusal) -> web.Response:
    if refusal.html:
        answer = web.Response(text=GATEWAY_PAGE, status=refusal.status, content_type="text/html")
    else:
        body: dict[str, Any] = {"error": refusal.text}
        if refusal.code:
            body |= {"code": refusal.code, "retry_after_seconds": refusal.retry_after_s}
        answer = json_answer(body, status=refusal.status)
    if refusal.retry_after_s:
        answer.headers["Retry-After"] = str(refusal.retry_after_s)
    return answer


def _hang_up(request: web.Request) -> web.Response:
    """End the connection without an answer; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _post_only(body: bytes) -> bool:
    """Whether every order of a body is post-only. What cannot be read is not."""
    try:
        found = msgspec.json.decode(body, type=_PostOnly | list[_PostOnly])
    except msgspec.MsgspecError:
        return False
    orders = found if isinstance(found, list) else [found]
    return bool(orders) and all(order.postOnly for order in orders)

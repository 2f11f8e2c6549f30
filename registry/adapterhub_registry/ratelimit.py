"""How often an account, or an address without one, may ask; counted by the `limits` library.

Requests are counted over a minute (or what the setting says) from the first one on: a fixed window, which is what the
headers can say (draft-ietf-httpapi-ratelimit-headers-09, as Hugging Face clients read them).
"""

import hashlib
import math
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec
from flask import Flask, Response, g, request
from limits import RateLimitItem, parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter

from adapterhub_registry.errors import TooManyRequests, Unauthorized
from adapterhub_registry.ratewindows import Windows
from adapterhub_registry.request import viewer
from adapterhub_registry.settings import Settings, SettingsRefused
from adapterhub_registry.telemetry import log

_UNCOUNTED = frozenset(["healthz", "readyz", "metrics", "static.asset"])
_SEARCHES = frozenset(
    [
        "adapters.list_adapters",
        "catalogue.compatible",
        "catalogue.leaderboard",
        "catalogue.leaderboard_of",
        "huggingface_listing.models",
        "web.adapter_list",
        "web.feed",
        "web.leaderboard_page",
    ]
)
_READING = frozenset(["GET", "HEAD", "OPTIONS"])
_NONE = frozenset(["", "0"])
_KEY = 32


class _Left(msgspec.Struct, frozen=True):
    """What is left of a rate after this request."""

    kind: str
    allowed: int
    window_seconds: int
    remaining: int
    reset_seconds: int


def register(app: Flask, settings: Settings) -> None:
    """Count every request of the app, and refuse what is too much.

    Raises:
        SettingsRefused: A rate or the place where requests are counted is none.
    """
    rates = {
        kind: rate
        for kind in ("read", "search", "write")
        if (rate := _rate(f"rate_{kind}", getattr(settings, f"rate_{kind}"))) is not None
    }
    if not rates:
        return
    unknown = _SEARCHES - app.view_functions.keys()
    if unknown:
        raise LookupError(f"There are no such views: {', '.join(sorted(unknown))}")
    app.before_request(_counter(_limiter(settings.rate_storage), rates))
    app.after_request(_tell)


def _limiter(address: str) -> FixedWindowRateLimiter:
    try:
        is_own = urlsplit(address).scheme == "memory"
        return FixedWindowRateLimiter(Windows() if is_own else storage_from_string(address))
    except Exception as error:  # each storage has errors of its own
        raise SettingsRefused(f"ADAPTERHUB_RATE_STORAGE {address!r} is refused: {error}") from error


def _rate(name: str, text: str) -> RateLimitItem | None:
    if text.strip() in _NONE:
        return None
    try:
        return parse(text)
    except ValueError as error:
        message = f"ADAPTERHUB_{name.upper()} {text!r} is no rate such as `600/minute` or `0`."
        raise SettingsRefused(message) from error


def _counter(
    limiter: FixedWindowRateLimiter, rates: dict[str, RateLimitItem]
) -> Callable[[], None]:
    def count() -> None:
        kind = _kind()
        rate = rates.get(kind)
        if rate is None:
            return
        try:
            who = _who()
            fits = limiter.hit(rate, kind, who)
            stats = limiter.get_window_stats(rate, kind, who)
        except Exception as error:  # noqa: BLE001  # each storage has errors of its own
            log.error(
                "requests are not counted", exc_info=error
            )  # and the registry goes on without
            return
        g.rate_left = _Left(
            kind=kind,
            allowed=rate.amount,
            window_seconds=rate.get_expiry(),
            remaining=stats.remaining,
            reset_seconds=max(1, math.ceil(stats.reset_time - time.time())),
        )
        if not fits:
            raise TooManyRequests("requests", g.rate_left.reset_seconds)

    return count


def _kind() -> str:
    endpoint = request.endpoint or ""
    if endpoint in _UNCOUNTED:
        return ""
    if request.method not in _READING:
        return "write"
    return "search" if endpoint in _SEARCHES else "read"


def _who() -> str:
    """The account, so that its machines share; a token that is none counts for its address."""
    try:
        account_id = viewer().account_id
    except Unauthorized:
        account_id = None
    who = f"address {request.remote_addr}" if account_id is None else f"account {account_id}"
    return hashlib.sha256(who.encode()).hexdigest()[
        :_KEY
    ]  # an address is the client's own text behind a proxy


def _tell(response: Response) -> Response:
    left: _Left | None = g.get("rate_left")
    if left is not None:
        response.headers["RateLimit-Policy"] = (
            f'"{left.kind}";q={left.allowed};w={left.window_seconds}'
        )
        response.headers["RateLimit"] = f'"{left.kind}";r={left.remaining};t={left.reset_seconds}'
    return response

"""Counting requests in this process: as the library counts them, without its threads."""

import threading

import pytest
from limits import parse
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter

from adapterhub_registry import ratewindows
from adapterhub_registry.ratewindows import Windows


class Clock:
    """The time, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr("time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(params=[Windows, MemoryStorage])
def storage(request: pytest.FixtureRequest, clock: Clock) -> Storage:
    """Ours, and the one it stands for."""
    made: Storage = request.param()
    return made


def test_a_window_begins_with_the_first_request_and_ends_after_its_time(
    storage: Storage, clock: Clock
) -> None:
    limiter, rate = FixedWindowRateLimiter(storage), parse("2/minute")

    found = []
    for second in (0, 30, 59, 60.5, 61, 62):
        clock.now = 1_000.0 + second
        fits = limiter.hit(rate, "ada")
        stats = limiter.get_window_stats(rate, "ada")
        found.append((fits, stats.remaining, round(stats.reset_time)))

    assert found == [
        (True, 1, 1060),
        (True, 0, 1060),
        (False, 0, 1060),
        (True, 1, 1120),
        (True, 0, 1120),
        (False, 0, 1120),
    ]


def test_keys_are_counted_apart_and_can_be_forgotten(storage: Storage) -> None:
    assert [storage.incr(key, 60) for key in ("a", "b", "a")] == [1, 1, 2]

    storage.clear("a")

    assert (storage.get("a"), storage.get("b")) == (0, 1)
    assert storage.check()
    assert storage.reset() == 1
    assert storage.get("b") == 0


def test_windows_that_ended_are_forgotten_when_there_are_many(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(ratewindows, "FEW", 10)
    counted = Windows()
    for number in range(1_000):
        clock.now += 1
        counted.incr(str(number), 5)

    assert counted.get("999") == 1
    assert counted.get("0") == 0
    assert counted.reset() <= 20


def test_no_request_is_lost_where_many_count_at_once() -> None:
    counted = Windows()

    def count() -> None:
        for _ in range(2_000):
            counted.incr("all", 60)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counted.get("all") == 8_000


def test_counting_starts_no_thread() -> None:
    before = threading.active_count()
    counted = Windows()

    counted.incr("a", 60)

    assert threading.active_count() == before

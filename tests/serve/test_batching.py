"""Requests that wait together are run together, without a timer; told with events, not with sleeps."""

import asyncio

import numpy as np
import pytest

from demur.serve.serving.batcher import Batcher
from demur.serve.serving.protocol import ProtocolError
from tests.scaffold.serve_fakes import POISON, FakeGuard, held, images


class Batches:
    """A batcher, what it saw, and a guard that can be held."""

    def __init__(self, max_batch=8, max_queue=64):
        self.guard = FakeGuard()
        self.observed = []
        self.waiting = []
        self.batcher = Batcher(
            "guard",
            max_batch=max_batch,
            max_queue=max_queue,
            observe=lambda guard, feed, outputs, threshold: self.observed.append((len(feed["x"]), threshold)),
            ran=lambda *_: None,
            waits=self.waiting.append,
        )

    def ask(self, x, **more):
        """Ask for some rows; the task is in the queue when this returns control."""
        more.setdefault("guard", self.guard)
        guard = more.pop("guard")
        return asyncio.get_running_loop().create_task(self.batcher.run(guard, {"x": x}, len(x), **more))

    async def begun(self):
        """Until one more pass has begun."""
        assert await asyncio.to_thread(self.guard.began.acquire, timeout=20)

    @property
    def sizes(self):
        return [size for size, _ in self.guard.calls]


def run(test):
    """Run a coroutine in a loop in which time stands still: whoever waited for a timer would wait for ever."""

    async def timeless():
        loop = asyncio.get_running_loop()
        loop.call_later = loop.call_at = _no_timers
        await test()

    asyncio.run(timeless())


def _no_timers(*_, **__):
    raise AssertionError("a timer")


def test_a_lone_request_runs_at_once_and_alone():
    async def test():
        batches = Batches()
        for _ in range(3):
            x = images(2)
            found = await batches.ask(x)
            np.testing.assert_array_equal(found["instance_score"], batches.guard.run({"x": x})["instance_score"])
        assert batches.sizes[::2] == [2, 2, 2]
        assert batches.batcher.waiting == 0

    run(test)


def test_requests_that_arrive_together_share_the_first_batch():
    async def test():
        batches = Batches()
        await asyncio.gather(*(batches.ask(images(1, seed)) for seed in range(5)))
        assert batches.sizes == [5]

    run(test)


def test_requests_that_arrive_while_one_runs_share_the_next_batch_and_each_gets_its_own_rows():
    async def test():
        batches = Batches()
        with held(batches.guard):
            first = batches.ask(images(1))
            await batches.begun()
            others = [batches.ask(images(n, seed=n)) for n in (1, 2, 3)]
            await asyncio.sleep(0)
            assert batches.batcher.waiting == 6
            assert not first.done()
        await first
        found = await asyncio.gather(*others)
        assert batches.sizes == [1, 6]
        for n, answer in zip((1, 2, 3), found, strict=True):
            alone = batches.guard.run({"x": images(n, seed=n)})
            for name, array in answer.items():
                np.testing.assert_array_equal(array, alone[name])
        assert max(batches.waiting) == 6
        assert batches.waiting[-1] == 0

    run(test)


def test_a_batch_has_no_more_rows_than_it_may_and_order_is_kept():
    async def test():
        batches = Batches(max_batch=4)
        with held(batches.guard):
            tasks = [batches.ask(images(1))]
            await batches.begun()
            tasks += [batches.ask(images(n)) for n in (3, 2, 1, 4)]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert batches.sizes == [1, 3, 3, 4]

    run(test)


def test_a_request_larger_than_a_batch_is_split_and_put_together_again():
    async def test():
        batches = Batches(max_batch=4)
        x = images(10)
        found = await batches.ask(x)
        assert batches.sizes == [4, 4, 2]
        for name, array in batches.guard.run({"x": x}).items():
            np.testing.assert_array_equal(found[name], array)

    run(test)


def test_a_bad_request_does_not_spoil_those_beside_it():
    async def test():
        batches = Batches()
        bad = images(1)
        bad[0, 0, 0] = POISON
        with held(batches.guard):
            first = batches.ask(images(1))
            await batches.begun()
            others = [batches.ask(images(1)), batches.ask(bad), batches.ask(images(2))]
            await asyncio.sleep(0)
        await first
        found = await asyncio.gather(*others, return_exceptions=True)
        assert isinstance(found[1], RuntimeError)
        assert len(found[0]["instance_score"]) == 1
        assert len(found[2]["instance_score"]) == 2
        assert batches.sizes == [1, 4, 1, 1, 2]
        await batches.batcher.close()
        assert [rows for rows, _ in batches.observed] == [1, 1, 2]

    run(test)


def test_a_cancelled_request_is_dropped_before_its_batch_starts():
    async def test():
        batches = Batches(max_queue=6)
        with held(batches.guard):
            first = batches.ask(images(1))
            await batches.begun()
            gone, stays = batches.ask(images(5)), batches.ask(images(1))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.sleep(0)
        await first
        await stays
        assert gone.cancelled()
        assert batches.sizes == [1, 1]
        assert batches.batcher.waiting == 0

    run(test)


def test_a_split_request_stops_when_its_sender_has_gone():
    async def test():
        batches = Batches(max_batch=2)
        with held(batches.guard):
            task = batches.ask(images(6))
            await batches.begun()
            task.cancel()
            await asyncio.sleep(0)
        await batches.batcher.close()
        assert task.cancelled()
        assert batches.sizes == [2]

    run(test)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again():
    async def test():
        batches = Batches(max_queue=3)
        with held(batches.guard):
            first = batches.ask(images(3))
            await batches.begun()
            waiting = batches.ask(images(3))
            await asyncio.sleep(0)
            with pytest.raises(ProtocolError, match="queue is full: 3 rows wait") as found:
                await batches.ask(images(1))
            assert (found.value.status, found.value.retry_after) == (503, 1)
        await asyncio.gather(first, waiting)
        await batches.ask(images(3))

    run(test)


def test_what_cannot_be_run_together_is_not():
    async def test():
        batches = Batches()
        other = FakeGuard("other", shape=(4, 4, 1))
        with held(batches.guard):
            first = batches.ask(images(1))
            await batches.begun()
            tasks = [
                batches.ask(images(1)),
                batches.ask(images(2, shape=(4, 4, 1)), guard=other),
                batches.ask(images(3), threshold=0.5),
                batches.ask(images(1)),
                batches.ask(images(2), threshold=0.5),
            ]
            await asyncio.sleep(0)
        await asyncio.gather(first, *tasks)
        assert batches.sizes == [1, 2, 5]
        assert [size for size, _ in other.calls] == [2]
        await batches.batcher.close()
        assert (5, 0.5) in batches.observed

    run(test)


def test_what_costs_something_is_computed_where_one_of_a_batch_asks_for_it():
    async def test():
        batches = Batches()
        await asyncio.gather(batches.ask(images(1)), batches.ask(images(1), extra=("reconstruction",)))
        await batches.ask(images(1))
        assert [("reconstruction" in outputs) for _, outputs in batches.guard.calls] == [True, False]

    run(test)


def test_closing_finishes_what_was_taken_and_takes_no_more():
    async def test():
        batches = Batches()
        with held(batches.guard):
            first = batches.ask(images(1))
            await batches.begun()
            second = batches.ask(images(1))
            await asyncio.sleep(0)
            closing = asyncio.get_running_loop().create_task(batches.batcher.close())
            await asyncio.sleep(0)
            with pytest.raises(ProtocolError, match="shutting down"):
                await batches.ask(images(1))
            assert not closing.done()
        await closing
        assert first.done()
        assert second.done()

    run(test)


def test_answers_do_not_wait_for_those_who_look_at_them(caplog):
    async def test():
        batches = Batches()

        def fail(*_):
            raise ValueError("looked too closely")

        batches.batcher._observe = fail
        for _ in range(2):
            assert len((await batches.ask(images(1)))["corrected"]) == 1
        await batches.batcher.close()

    run(test)
    assert "looking at a batch failed" in caplog.text

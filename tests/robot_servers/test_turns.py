import asyncio

import pytest

from robot_servers.turns import Turns


async def crowd(readers, command_after, events):
    """Let `readers` requests read at once, and a command come in with them or some turns later."""
    turns = Turns()

    async def read(number):
        await turns.mine()
        events.append(number)

    async def command():
        for _ in range(command_after):
            await asyncio.sleep(0)
        events.append("read")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        events.append("answered")

    await asyncio.gather(*map(read, range(readers)), command())


@pytest.mark.parametrize("command_after", range(30))
def test_a_command_waits_for_one_reader_and_not_for_the_crowd(command_after):
    events = []
    asyncio.run(crowd(10, command_after, events))
    assert events.index("answered") - events.index("read") <= 2
    assert [event for event in events if isinstance(event, int)] == list(range(10))


def test_who_reads_alone_does_not_wait():
    async def read():
        turns = Turns()
        for _ in range(3):
            mine = turns.mine()
            with pytest.raises(StopIteration):
                mine.send(None)  # done at the first step
            await asyncio.sleep(0)

    asyncio.run(read())


def test_a_reader_that_goes_away_keeps_nobody_waiting():
    async def go_away():
        turns = Turns()
        first, second, third = (asyncio.create_task(turns.mine()) for _ in range(3))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait_for(third, 5.0)
        assert first.done()
        assert second.cancelled()

    asyncio.run(go_away())

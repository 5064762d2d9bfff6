import asyncio
import socket

import pytest

from robot_servers.turns import LOOKS, Turns, turns


async def crowd(readers, sends, events):
    """Let `readers` requests read at once, and a command be sent while one of them, number `sends`, has its turn."""
    turns = Turns()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader, writer = await asyncio.open_connection(sock=theirs)

        async def read(number):
            await turns.mine()
            events.append(number)
            if number == sends:
                ours.send(b"!")

        async def answer():
            await reader.readexactly(1)
            events.append("answered")

        await asyncio.gather(answer(), *map(read, range(readers)))
        writer.close()


@pytest.mark.parametrize("sends", range(10))
def test_a_command_waits_for_the_reader_before_it_and_not_for_the_crowd(sends):
    events = []
    asyncio.run(crowd(10, sends, events))
    assert events == [*range(sends + 1), "answered", *range(sends + 1, 10)]


def test_who_reads_alone_does_not_wait():
    async def read():
        turns = Turns()
        for _ in range(3):
            mine = turns.mine()
            with pytest.raises(StopIteration):
                mine.send(None)  # done at the first step
            for _ in range(LOOKS):
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


def test_one_that_fails_keeps_nobody_waiting():
    async def fail():
        told, turns = [], Turns()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        turns.take(lambda: None)
        turns.take(lambda: 1 / 0)
        await asyncio.wait_for(turns.mine(), 5.0)
        assert [type(error) for error in told] == [ZeroDivisionError]

    asyncio.run(fail())


def test_each_loop_has_its_own():
    async def found():
        return turns(), turns()

    first, second = (asyncio.run(found()) for _ in range(2))
    assert first[0] is first[1]
    assert first[0] is not second[0]

import asyncio
import socket

import pytest

from robot_servers.turns import LOOKS, Turns, turns


async def crowd(readers, sends, events):
    """Let `readers` requests read at once, and a command be sent while one of them, number `sends`, is answered."""
    turns = Turns()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader, writer = await asyncio.open_connection(sock=theirs)

        async def read(number):
            events.append(number)
            if number == sends:
                ours.send(b"!")

        async def answer():
            await reader.readexactly(1)
            events.append("answered")

        tasks = []
        for i in range(readers):
            turns.take(lambda number=i: tasks.append(asyncio.create_task(read(number))))
        await answer()
        while len(tasks) < readers:
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        writer.close()


@pytest.mark.parametrize("sends", range(10))
def test_a_command_waits_for_the_reader_before_it_and_not_for_the_crowd(sends):
    events = []
    asyncio.run(crowd(10, sends, events))
    assert events == [*range(sends + 1), "answered", *range(sends + 1, 10)]


def test_who_reads_alone_does_not_wait():
    async def read():
        turns, begun = Turns(), []
        for number in range(3):
            turns.take(lambda number=number: begun.append(number))
            assert begun == list(range(number + 1))
            for _ in range(LOOKS + 1):
                await asyncio.sleep(0)

    asyncio.run(read())


def test_one_that_fails_keeps_nobody_waiting():
    async def fail():
        told, turns, ended = [], Turns(), asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        for act in (lambda: None, lambda: 1 / 0, ended.set):
            turns.take(act)
        await asyncio.wait_for(ended.wait(), 5.0)
        assert [type(error) for error in told] == [ZeroDivisionError]

    asyncio.run(fail())


def test_each_loop_has_its_own():
    async def found():
        return turns(), turns()

    first, second = (asyncio.run(found()) for _ in range(2))
    assert first[0] is first[1]
    assert first[0] is not second[0]

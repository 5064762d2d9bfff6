"""Wrong tokens: five a minute, then longer and longer waits, and a memory that cannot be filled."""

from robot_servers.wrong_tokens import MAX_CLIENTS, MAX_WAIT_S, WrongTokens


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_five_a_minute_are_refused_as_they_are_and_more_must_wait_longer_and_longer():
    clock = ManualClock()
    wrong = WrongTokens(clock)
    waits = [wrong.count("a").wait_s for _ in range(12)]
    assert waits == [0.0] * 5 + [2.0, 4.0, 8.0, 16.0, 32.0, MAX_WAIT_S, MAX_WAIT_S]
    assert wrong.count("b").wait_s == 0.0


def test_it_is_forgiven_with_time():
    clock = ManualClock()
    wrong = WrongTokens(clock)
    for _ in range(6):
        wrong.count("a")
    clock.now_s += 60.0
    assert [wrong.count("a").wait_s for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 2.0]


def test_a_steady_five_a_minute_never_wait():
    clock = ManualClock()
    wrong = WrongTokens(clock)
    for _ in range(50):
        assert wrong.count("a").wait_s == 0.0
        clock.now_s += 12.5


def test_only_the_first_of_many_are_worth_a_line():
    wrong = WrongTokens(ManualClock())
    assert sum(wrong.count("a").is_worth_a_line for _ in range(1000)) == 6


def test_many_addresses_fill_no_memory():
    wrong = WrongTokens(ManualClock())
    for i in range(3 * MAX_CLIENTS):
        wrong.count(str(i))
    assert len(wrong._failures) == MAX_CLIENTS

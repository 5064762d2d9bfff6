"""How often a server that dies is started again."""

from robot_servers.supervisor import MAX_RESTARTS, WITHIN_S, RestartBudget


def test_three_restarts_in_ten_minutes_and_no_more():
    budget = RestartBudget()
    assert [budget.take(float(now_s)) for now_s in range(MAX_RESTARTS + 1)] == [True] * MAX_RESTARTS + [False]
    assert not budget.take(WITHIN_S - 1.0)
    assert budget.take(WITHIN_S)  # the first is forgotten
    assert not budget.take(WITHIN_S)

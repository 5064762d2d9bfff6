"""The newest move or joint reset, as its client sees it."""

from robot_servers.kernel_parts.jobs import Jobs
from serl_core.robots.messages import Job


def test_only_the_one_that_runs_is_ended_and_each_end_is_told_once():
    told = []
    jobs = Jobs(lambda what, detail: told.append((what, detail)))
    jobs.finish("cancelled", "nothing runs")
    assert (jobs.newest, told) == (None, [])
    jobs.begin("move")
    jobs.finish("failed", "short of the goal")
    jobs.finish("cancelled", "held")
    assert jobs.newest == Job(id=1, kind="move", state="failed", detail="short of the goal")
    assert told == [("move", "failed short of the goal")]
    assert jobs.begin("joint_reset") == Job(id=2, kind="joint_reset", state="running")

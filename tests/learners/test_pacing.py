import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.pacing import Pacing
from serl_core.errors import ConfigError


@given(
    training_starts=st.integers(1, 30),
    arrivals=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30),
)
def test_updates_never_exceed_what_env_steps_have_paid_for(training_starts, arrivals):
    pacing, env_steps, updates = Pacing(training_starts=training_starts), 0, 0
    for steps, wishes in arrivals:
        pacing.inserted(steps)
        env_steps += steps
        for _ in range(wishes):
            if pacing.debt > 0:
                pacing.updated()
                updates += 1
        assert updates <= max(env_steps - training_starts, 0)
        assert pacing.env_steps == env_steps
        assert pacing.trained_env_steps + pacing.debt == env_steps
    while pacing.debt > 0:
        pacing.updated()
        updates += 1
    assert updates == max(env_steps - training_starts, 0)


def test_an_update_nobody_paid_for_is_our_mistake():
    with pytest.raises(AssertionError, match="paid"):
        Pacing(training_starts=1).updated()


def test_training_cannot_start_before_the_first_step():
    with pytest.raises(ConfigError, match="training_starts"):
        Pacing(training_starts=0)

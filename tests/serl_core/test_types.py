import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serl_core.errors import ConfigError
from serl_core.types import ActionBlock, ActionSpec, EndReason

TWO_ARMS = ActionSpec((ActionBlock("left/twist", 6), ActionBlock("right/twist", 6), ActionBlock("right/gripper", 1)))


def test_only_success_and_failure_end_the_task_itself():
    assert {end for end in EndReason if end.is_terminal} == {EndReason.SUCCESS, EndReason.FAILURE}


def test_every_end_is_either_terminal_or_a_truncation():
    for end in EndReason:
        assert (end.is_terminal + end.is_truncation) == (end is not EndReason.RUNNING)


@given(st.lists(st.integers(1, 4), max_size=3))
def test_an_action_comes_back_from_its_blocks(batch):
    action = np.random.default_rng(0).normal(size=(*batch, TWO_ARMS.size))
    np.testing.assert_array_equal(TWO_ARMS.join(TWO_ARMS.split(action)), action)


def test_blocks_are_found_by_name_and_not_by_position():
    """Fault 4 of earlier systems: magic indices into a flattened, alphabetically sorted vector."""
    blocks = TWO_ARMS.split(np.arange(13.0))
    np.testing.assert_array_equal(blocks["right/twist"], np.arange(6.0, 12.0))
    # The order of the dict that is joined does not matter, that of the spec does.
    shuffled = {name: blocks[name] for name in sorted(blocks)}
    np.testing.assert_array_equal(TWO_ARMS.join(shuffled), np.arange(13.0))


def test_an_action_of_another_length_is_refused():
    with pytest.raises(ValueError, match="7 numbers, its spec 13"):
        TWO_ARMS.split(np.zeros(7))


def test_blocks_that_the_spec_does_not_have_are_refused():
    with pytest.raises(ValueError, match="wrench"):
        TWO_ARMS.join({"wrench": np.zeros(6)})


@pytest.mark.parametrize("blocks", [(), (ActionBlock("twist", 6), ActionBlock("twist", 6))])
def test_block_names_are_unique_and_not_empty(blocks):
    with pytest.raises(ConfigError, match="unique and not empty"):
        ActionSpec(blocks)


def test_a_block_has_at_least_one_number():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        ActionBlock("twist", 0)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from serl_core.agents.losses import critic_loss, disagreement, policy_loss, td_target, temperature_loss


def test_time_limit_still_bootstraps():
    target = td_target(jnp.zeros(2), jnp.array([0.0, 1.0]), jnp.full((2, 2), 5.0), gamma=0.9)
    np.testing.assert_allclose(target, [0.0, 4.5])


def test_target_takes_the_least_of_the_critics():
    target = td_target(jnp.zeros(2), jnp.ones(2), jnp.array([[1.0, 4.0], [3.0, 2.0]]), gamma=1.0)
    np.testing.assert_allclose(target, [1.0, 2.0])


def test_success_is_kept_when_a_penalty_lands_on_the_same_step():
    """Earlier systems took a success for `reward == 1`, and missed it at 1 - 0.02."""
    target = td_target(jnp.array([1.0 - 0.02]), jnp.array([0.0]), jnp.full((2, 1), 5.0), gamma=0.9)
    np.testing.assert_allclose(target, [0.98])


def test_each_critic_learns_as_if_it_were_alone():
    def alone(q):
        return critic_loss(q[None], jnp.array([1.0, 2.0]))

    members = jnp.array([[0.0, 0.0], [3.0, -1.0]])
    together = jax.grad(critic_loss)(members, jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(together, [jax.grad(alone)(q) for q in members])


def test_policy_is_judged_by_the_mean_of_the_critics():
    loss = policy_loss(jnp.zeros(1), jnp.array([[1.0], [3.0]]), jnp.asarray(0.1))
    np.testing.assert_allclose(loss, -2.0)


def test_temperature_rises_while_the_entropy_is_below_its_target():
    gradient = jax.grad(temperature_loss)(jnp.asarray(0.0), jnp.asarray(-4.0), -3.0)
    assert gradient < 0


def test_critics_that_agree_on_the_second_half_of_a_batch_do_not_disagree():
    q = jnp.array([[0.0, 5.0, 1.0, 2.0], [9.0, 7.0, 1.0, 2.0]])
    assert disagreement(q) == 0.0


def test_disagreement_is_the_mean_deviation_over_the_critics():
    q = jnp.array([[0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 3.0, 2.0]])
    assert disagreement(q) == pytest.approx(0.5)

"""Times SAC of sbx-rl on command. Runs in an environment of its own; knows nothing of serl.

Protocol: one JSON line in (``{"critics": 2, "repeats": 5}``), one JSON line out (seconds per update).
"""

import json
import sys
import time

import flax.linen as nn
import gymnasium
import jax
import numpy as np
from sbx import SAC
from stable_baselines3.common.logger import configure

OBSERVATION, ACTION, BATCH, UTD, FILLED = 18, 7, 256, 20, 10_000


class Blank(gymnasium.Env):
    """Nothing but the two spaces; SAC asks for an environment, and never steps it here."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)


def build(critics: int) -> SAC:
    """Return an agent of the same sizes as ours, its buffer filled with noise."""
    agent = SAC(
        "MlpPolicy",
        Blank(),
        buffer_size=FILLED,
        batch_size=BATCH,
        gradient_steps=UTD,
        policy_delay=UTD,
        seed=0,
        policy_kwargs={
            "net_arch": [256, 256],
            "n_critics": critics,
            "layer_norm": True,  # sbx offers it for the critics alone
            "activation_fn": nn.tanh,
        },
    )
    agent.set_logger(configure(None, []))
    rng = np.random.default_rng(0)
    for _ in range(FILLED):
        frame, following = rng.standard_normal((2, 1, OBSERVATION), np.float32)
        action = rng.uniform(-1, 1, (1, ACTION)).astype(np.float32)
        agent.replay_buffer.add(frame, following, action, rng.random(1), np.zeros(1), [{}])
    return agent


def main() -> None:
    """Serve until standard input ends."""
    agents: dict[int, SAC] = {}
    for line in sys.stdin:
        job = json.loads(line)
        critics = job["critics"]
        if critics not in agents:
            agents[critics] = build(critics)
            agents[critics].train(UTD, BATCH)
        agent = agents[critics]
        started = time.perf_counter()
        for _ in range(job["repeats"]):
            agent.train(UTD, BATCH)
        jax.block_until_ready(agent.policy.qf_state)
        print(json.dumps((time.perf_counter() - started) / (job["repeats"] * UTD)), flush=True)


if __name__ == "__main__":
    main()

"""Critic updates per second beside sbx-rl's SAC, an unfused loop and the bare matrix products.

Run as `python benchmarks/learner.py`. Prints one JSON line per measurement. All have equal sizes
(observation 18, action 7, batch 256, two layers of 256, LayerNorm, one policy update per 20 critic updates,
sampling from the buffer included) and take turns, so all see the same machine; the median of the turns
counts. sbx runs in build/bench-sbx, an environment of its own: the first run needs a package index.
Then: one action on the actor, and a learner's process from its start to its first real update.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from serl_core.agents.policy import ActingPolicy
from serl_core.agents.sac import Batch, Sac, SacConfig
from serl_core.data.episode_log import EpisodeLog, save_episode
from serl_core.data.mixture import Mixture
from serl_core.data.replay_buffer import ReplayBuffer
from serl_core.envs.task import load_task
from serl_core.networks.compilation import enable_compilation_cache
from serl_core.testing.episodes import make_episode
from serl_core.types import ActionBlock, ActionSpec, EndReason, EnvSpec, Observation, Provenance, Transition

OBSERVATION, ACTION, BATCH, HIDDEN, UTD, FILLED = 18, 7, 256, 256, 20, 10_000
SBX = Path("build/bench-sbx")
SPEC = EnvSpec(
    proprio_size=OBSERVATION,
    action=ActionSpec((ActionBlock("twist", 6), ActionBlock("gripper", 1))),
    control_hz=10.0,
    image_shapes={},
    feature_shapes={},
)

Step = Callable[[], float]
"""Do some updates; return the seconds of one."""


def timed(work: Callable[[], object], updates: int) -> Step:
    """Return a step that does `work`, which is `updates` updates."""

    def step() -> float:
        started = time.perf_counter()
        jax.block_until_ready(work())
        return (time.perf_counter() - started) / updates

    return step


def noise_mixture() -> Mixture:
    """Return a demo and an online buffer full of noise."""
    rng = np.random.default_rng(0)

    def frame() -> Observation:
        return Observation(proprio=rng.standard_normal(OBSERVATION).astype(np.float32))

    def buffer(session: str) -> ReplayBuffer:
        buffer = ReplayBuffer(SPEC, 2 * FILLED)
        for i in range(FILLED):
            action = rng.uniform(-1, 1, ACTION).astype(np.float32)
            provenance = Provenance(session, i, i // 100, 0, 0.0)
            buffer.insert(Transition(frame(), action, 0.0, 1.0, frame(), False, EndReason.RUNNING, provenance))
        return buffer

    return Mixture(buffer("demos"), buffer("online"))


def fused(agent: Sac, mixture: Mixture) -> Step:
    """Return our update, as `Trainer.update` does it: one program per environment step, its metrics read once."""
    rng = np.random.default_rng(0)
    state = agent.init(key=jax.random.key(0))

    def work() -> object:
        nonlocal state
        state, metrics = agent.update(state, mixture.sample(rng, UTD, BATCH))
        return jax.device_get(metrics.values)

    return timed(work, UTD)


def unfused(config: SacConfig, mixture: Mixture) -> Step:
    """Return the same work with one program per update, and no other difference.

    As in ours, the batches are drawn at once, the state is donated and the metrics are read once, at the end.
    """
    agent = Sac(SPEC, config)
    rng = np.random.default_rng(0)
    state = agent.init(key=jax.random.key(0))
    split = jax.jit(lambda key: tuple(jax.random.split(key, UTD + 2)))
    update_critic = jax.jit(agent._update_critic, donate_argnums=0)
    update_policy = jax.jit(agent._update_policy, donate_argnums=0)

    def work() -> object:
        nonlocal state
        drawn = mixture.sample(rng, UTD, BATCH)
        batches = Batch(drawn.observation, drawn.action, drawn.reward, drawn.discount, drawn.next_observation)
        key, policy_key, *critic_keys = split(state.key)
        state = state._replace(key=key)
        for i, critic_key in enumerate(critic_keys):
            batch = jax.tree.map(lambda leaf, i=i: leaf[i], batches)
            state, critic_metrics = update_critic(state, (batch, critic_key))
        state, policy_metrics = update_policy(state, batch.observation, policy_key)
        return jax.device_get(critic_metrics | policy_metrics)

    return timed(work, UTD)


def bare(critics: int) -> Step:
    """Return the matrix products of `UTD` critic updates and nothing else: the limit."""
    key = jax.random.key(0)
    inputs, used = OBSERVATION + ACTION, min(critics, 2)

    def array(*shape: int) -> jax.Array:
        return jax.random.normal(key, shape)

    sizes = [(inputs, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 1)]
    weights = [array(critics, *size) for size in sizes]
    below = [array(critics, BATCH, size[0]) for size in sizes]
    above = [array(critics, BATCH, size[1]) for size in sizes]
    policy = [array(size, out) for size, out in ((OBSERVATION, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 2 * ACTION))]
    policy_below = [array(BATCH, size.shape[0]) for size in policy]

    def update(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
        nudge = 1e-9 * carry  # makes each product depend on the one before, so that none is moved out of the loop
        products = [(x + nudge) @ w for x, w in zip(policy_below, policy, strict=True)]
        products += [(x[:used] + nudge) @ w[:used] for x, w in zip(below, weights, strict=True)]
        products += [(x + nudge) @ w for x, w in zip(below, weights, strict=True)]
        products += [(x + nudge).mT @ g for x, g in zip(below, above, strict=True)]
        products += [(g + nudge) @ w.mT for g, w in zip(above[1:], weights[1:], strict=True)]
        products = jax.lax.optimization_barrier(products)
        return sum(product.ravel()[0] for product in products), None

    run = jax.jit(lambda start: jax.lax.scan(update, start, None, length=UTD)[0])
    return timed(lambda: run(jnp.zeros(())), UTD)


class Sbx:
    """A process of the other environment that times itself when asked."""

    def __init__(self) -> None:
        python = SBX / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(SBX)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", "sbx-rl"], check=True)
        worker = Path(__file__).with_name("sbx_worker.py")
        self._process = subprocess.Popen([str(python), str(worker)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def step(self, critics: int) -> Step:
        """Return a step of sbx's SAC with so many critics."""
        return lambda: float(self._ask({"critics": critics, "repeats": 1}))

    def _ask(self, job: dict[str, int]) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        return float(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare(critics: int, turns: int, sbx: Sbx, mixture: Mixture) -> dict[str, float]:
    """Return the updates per second of all, measured in turns."""
    config = SacConfig(critics=critics, utd_ratio=UTD)
    steps = {
        "serl": fused(Sac(SPEC, config), mixture),
        "sbx": sbx.step(critics),
        "unfused": unfused(config, mixture),
        "bare_matmul": bare(critics),
    }
    for step in steps.values():
        step()  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            seconds[name].append(step())
    rates = {name: 1.0 / statistics.median(values) for name, values in seconds.items()}
    ratios = {f"serl_over_{name}": rates["serl"] / rates[name] for name in steps if name != "serl"}
    return {"critics": critics} | {f"{name}_updates_per_s": rate for name, rate in rates.items()} | ratios


def action_ms() -> dict[str, float]:
    """Return what one sampled action costs the actor."""
    agent = Sac(SPEC, SacConfig())
    policy = ActingPolicy(SPEC, agent.config.policy, seed=0)
    policy.load(jax.device_get(agent.init(key=jax.random.key(0)).policy))
    observation = Observation(proprio=np.ones(OBSERVATION, np.float32))
    times = []
    for _ in range(5000):
        started = time.perf_counter()
        policy.sample(observation)
        times.append(1e3 * (time.perf_counter() - started))
    return {"action_ms_p50": statistics.median(times), "action_ms_p99": sorted(times)[-50]}


FIRST_UPDATE = """
import sys
from contextlib import closing
from pathlib import Path
from learners.learner import Learner, LearnerConfig
from learners.main import open_trainer
from serl_core.data.metrics_file import MetricsWriter
from learners.trainer import TrainerConfig
from serl_core.data.episode_log import EpisodeLog
from serl_core.envs.task import load_task
from serl_core.networks.compilation import enable_compilation_cache
from serl_core.networks.perception import perception_for
from serl_core.transport.zmq_transport import ZmqLearnerLink
enable_compilation_cache()
task, run = load_task("ram_insertion").config, Path(sys.argv[1])
digest = task.digest()
with closing(EpisodeLog(run / "experience", digest)) as log, ZmqLearnerLink(digest) as link:
    trainer = open_trainer(perception_for(task), TrainerConfig(), log, run=run, demos=run / "demos")
    with MetricsWriter(run / "metrics.jsonl") as metrics:
        learner = Learner(trainer, link, log, metrics, task, LearnerConfig(), run)
        learner.start(resume=True)
        assert len(trainer.demonstrations) and trainer.updates == 0
        learner.advance(0.0)
        assert trainer.updates == trainer.config.sac.utd_ratio
"""


def start_s() -> dict[str, float]:
    """Return the seconds from the start of a learner's process to the end of its first real update.

    It resumes a made-up run of 20 demonstrations and 500 logged transitions, with no checkpoint yet.
    """
    task = load_task("ram_insertion").config
    spec, digest = task.env_spec(), task.digest()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        for i in range(20):
            demonstration = make_episode(spec, session="demos", episode=i, first_sequence=100 * i, steps=100)
            save_episode(run / "demos" / f"{i:04d}.safetensors", demonstration, task_digest=digest)
        with closing(EpisodeLog(run / "experience", digest)) as log:
            for i in range(5):
                log.append(make_episode(spec, session="online", episode=i, first_sequence=100 * i, steps=100))
        times = []
        for _ in range(2):  # the first fills the compilation cache, unless an earlier process has
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", FIRST_UPDATE, folder], check=True)
            times.append(time.perf_counter() - started)
    return {"first_start_s": times[0], "warm_start_s": times[1]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20)
    turns = parser.parse_args().turns
    enable_compilation_cache()
    mixture = noise_mixture()
    sbx = Sbx()
    try:
        for critics in (2, 10):
            print(json.dumps(compare(critics, turns, sbx, mixture)), flush=True)
    finally:
        sbx.close()
    print(json.dumps(action_ms()))
    print(json.dumps(start_s()))


if __name__ == "__main__":
    main()

"""Learning from two cameras of 128 x 128: updates from stored features and from pixels, sampling, bytes, acting.

Run as `taskset -c 0 python benchmarks/pixels.py`: on one core, as the actor may have. Prints one JSON line per
measurement. What is compared takes turns in one run, so all see the same machine; the median of the turns counts.
The encoders have random weights: they cost what trained ones cost. `--turns` is for the updates from pixels, of which
one takes many seconds.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from actors.actor import ActorLoop
from actors.seeing import vision_for
from actors.teleop.scripted import ExpertSkill, ScriptedTeleop
from examples.ram_insertion_pixels import CONFIG, expert
from robot_servers.limits import SafetyLimits
from robot_servers.local import LocalRobot
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from serl_core.agents.policy import ActingPolicy
from serl_core.agents.sac import Sac, SacConfig
from serl_core.config import RewardConfig
from serl_core.data.episode_log import EpisodeLog
from serl_core.data.mixture import Mixture
from serl_core.data.replay_buffer import ReplayBuffer
from serl_core.data.rings import stored_shapes
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.task import Task
from serl_core.image_config import CameraConfig, EncoderConfig, EncoderKind
from serl_core.networks import resnet, small_cnn
from serl_core.networks.compilation import enable_compilation_cache
from serl_core.networks.frozen import FrozenEncoder
from serl_core.networks.perception import ImageEncoder, Perception
from serl_core.types import EndReason, EnvSpec, Observation, Provenance, Transition

CAMERAS = ("wrist", "side_1")
SIDE = 128  # pixels
BATCH = 256
HELD = 3000  # frames in the online buffer; half as many in the demonstrations'
RAW_BYTES = len(CAMERAS) * SIDE * SIDE * 3  # of one moment
LOGGED_STEPS = 200
ENCODERS = {
    "small": FrozenEncoder(EncoderKind.RANDOM, "small", small_cnn.init(0)),
    "resnet10": FrozenEncoder(EncoderKind.RESNET10, "resnet10", jax.device_get(resnet.init(0))),
}
OBSERVATION = replace(
    CONFIG.observation,
    cameras=tuple(CameraConfig(name=name, height=SIDE, width=SIDE) for name in CAMERAS),
    encoder=EncoderConfig(kind=EncoderKind.RANDOM),
)
TASK = replace(CONFIG, name="pixels_benchmark", observation=OBSERVATION, reward=RewardConfig())


def perception(encoder: FrozenEncoder, *, copies: int = 1) -> Perception:
    """Return what `perception_for` does, for an encoder whose weights are in no file."""
    spec = TASK.env_spec()
    features = {name: encoder.feature_shape(height, width) for name, (height, width, _) in spec.image_shapes.items()}
    read = replace(spec, image_shapes={}, feature_shapes=features)
    return Perception("benchmark", encoder, read, replace(read, feature_copies=copies))


def noise(spec: EnvSpec, rng: np.random.Generator) -> Observation:
    """Return an observation, as an actor sends it, of noise."""
    return Observation(
        proprio=rng.standard_normal(spec.proprio_size, np.float32),
        images={name: rng.integers(0, 256, shape, np.uint8) for name, shape in spec.image_shapes.items()},
        features={
            name: rng.random(shape, np.float32).astype(np.float16) for name, shape in stored_shapes(spec).items()
        },
    )


def noise_mixture(spec: EnvSpec, held: int) -> Mixture:
    """Return buffers full of noise; a tenth of the online steps are interventions."""
    rng = np.random.default_rng(0)

    def filled(session: str, steps: int) -> ReplayBuffer:
        buffer, observation = ReplayBuffer(spec, steps + 1), noise(spec, rng)
        for i in range(steps):
            action = rng.uniform(-1, 1, spec.action.size).astype(np.float32)
            after, provenance = noise(spec, rng), Provenance(session, i, 0, 0, 0.1 * i)
            step = Transition(observation, action, 0.0, 1.0, after, i % 10 == 0, EndReason.RUNNING, provenance)
            buffer.insert(step)
            observation = after
        return buffer

    return Mixture(filled("demos", held // 2), filled("online", held))


def updating(agent: Sac, mixture: Mixture) -> Callable[[], float]:
    """Return a step that does one update of critic and policy, sampling included, and returns its seconds."""
    rng, state = np.random.default_rng(0), agent.init(key=jax.random.key(0))

    def step() -> float:
        nonlocal state
        started = time.perf_counter()
        state, metrics = agent.update(state, mixture.sample(rng, 1, BATCH))
        jax.device_get(metrics.values)
        return time.perf_counter() - started

    return step


def updates(name: str, turns: int, per_turn: int) -> dict[str, object]:
    """Return the seconds of an update from features and of one that encodes the pixels again, in turns."""
    encoder = ENCODERS[name]
    sees = perception(encoder)
    config = SacConfig(utd_ratio=1, batch_size=BATCH)
    from_features = updating(Sac(sees.spec, config), noise_mixture(sees.stored, HELD))
    from_pixels = updating(Sac(sees.spec, config, encoder.encode), noise_mixture(TASK.env_spec(), 2 * BATCH))
    for step in (from_features, from_pixels):
        step()  # compiles
    features_s: list[float] = []
    pixels_s: list[float] = []
    for _ in range(turns):
        features_s += [from_features() for _ in range(per_turn)]
        pixels_s.append(from_pixels())
    features_ms, pixels_ms = (1e3 * statistics.median(times) for times in (features_s, pixels_s))
    return {
        "update": name,
        "features_ms": round(features_ms, 1),
        "pixels_ms": round(pixels_ms, 1),
        "ratio": round(pixels_ms / features_ms, 1),
    }


def sampling(repeats: int) -> dict[str, object]:
    """Return the milliseconds of drawing a batch of features."""
    found: dict[str, object] = {"sample": BATCH}
    for name, encoder in ENCODERS.items():
        mixture, rng, times = noise_mixture(perception(encoder).stored, HELD), np.random.default_rng(0), []
        np.empty(2**24, np.uint8)  # freed at once: malloc then keeps large blocks, as in a process that has run XLA
        for _ in range(repeats):
            started = time.perf_counter()
            mixture.sample(rng, 1, BATCH)
            times.append(time.perf_counter() - started)
        found[f"{name}_ms_p50_p99"] = (1e3 * np.percentile(times, [50, 99])).round(2).tolist()
    return found


def overlap(turns: int, per_turn: int) -> dict[str, object]:
    """Return the milliseconds of an env step with its batch drawn before or, as in training, beside the last update."""
    spec = perception(ENCODERS["small"])
    agent, mixture, rng = Sac(spec.spec, SacConfig()), noise_mixture(spec.stored, HELD), np.random.default_rng(0)
    utd, batch_size = agent.config.utd_ratio, 128
    state, metrics = agent.update(agent.init(key=jax.random.key(0)), mixture.sample(rng, utd, batch_size))
    times: dict[str, list[float]] = {"before": [], "beside": []}
    for i in range(2 * turns):
        drawn = ("before", "beside")[i % 2]
        jax.device_get(metrics.values)
        started = time.perf_counter()
        for _ in range(per_turn):
            if drawn == "before":
                jax.device_get(metrics.values)
            batch = mixture.sample(rng, utd, batch_size)
            jax.device_get(metrics.values)
            state, metrics = agent.update(state, batch)
        jax.device_get(metrics.values)
        times[drawn].append((time.perf_counter() - started) / per_turn)
    return {"drawn": {drawn: round(1e3 * statistics.median(found), 1) for drawn, found in times.items()}}


def ring_bytes() -> dict[str, object]:
    """Return the bytes of features of one moment in the buffer, and as a part of the raw images."""
    found: dict[str, object] = {"raw_bytes": RAW_BYTES}
    for name, encoder in ENCODERS.items():
        for copies in (1, 2, 3):
            spec = perception(encoder, copies=copies).stored
            size = sum(np.zeros(shape, np.float16).nbytes for shape in stored_shapes(spec).values())
            found[f"{name}_x{copies}"] = [size, round(size / RAW_BYTES, 3)]
    return found


def logged_bytes(name: str) -> dict[str, object]:
    """Return what a transition takes on disk: a short run of the simulated task, PNG and features of both cameras."""
    task, sees = Task(config=TASK, expert=expert), perception(ENCODERS[name])
    service = RobotService(MujocoBackend("ram_insertion", is_lockstep=True), SafetyLimits())
    service.start()
    with tempfile.TemporaryDirectory() as folder, closing(EpisodeLog(Path(folder), "benchmark")) as log:
        with closing(service), ArmEnv(task, LocalRobot(service), vision=vision_for(TASK, sees)) as env:
            human = ScriptedTeleop(task, env, skill=ExpertSkill(), seed=0, is_demonstrating=True)
            loop = ActorLoop(env, lambda _: np.zeros(6, np.float32), human, session="benchmark")
            steps = [loop.step() for _ in range(LOGGED_STEPS)]
        log.append(steps)
        log.sync()
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    frames = [frame.nbytes for step in steps for frame in step.observation.frames.values()]
    per_step = size / len(steps)
    return {
        "logged": name,
        "bytes_per_transition": round(per_step),
        "of_raw": round(per_step / RAW_BYTES, 3),
        "png_bytes_per_image": round(statistics.mean(frames)),
    }


def acting(repeats: int) -> dict[str, object]:
    """Return the milliseconds from two images to an action."""
    rng, found = np.random.default_rng(0), {}
    images = {name: rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for name in CAMERAS}
    proprio = np.zeros(TASK.observation.proprio_size, np.float32)
    for name, encoder in ENCODERS.items():
        spec, encode = perception(encoder).spec, ImageEncoder(encoder)
        agent = Sac(spec, SacConfig())
        policy = ActingPolicy(spec, agent.config.policy, seed=0)
        policy.load(jax.device_get(agent.policy_params(agent.init(key=jax.random.key(0)))))
        times = np.empty((repeats + 5, 2))
        for row in times:
            started = time.perf_counter()
            features = encode(images)
            encoded = time.perf_counter()
            policy.sample(Observation(proprio, features=features))
            row[:] = encoded - started, time.perf_counter() - encoded
        times = 1e3 * times[5:]
        found[f"act_{name}_ms_p50_p99"] = np.percentile(times.sum(1), [50, 99]).round(2).tolist()
        found[f"{name}_encoder_head_ms_p50"] = np.median(times, axis=0).round(2).tolist()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=300, help="of what takes milliseconds")
    args = parser.parse_args()
    enable_compilation_cache()
    print(json.dumps(ring_bytes()), flush=True)
    print(json.dumps(sampling(args.repeats)), flush=True)
    print(json.dumps(overlap(args.turns, per_turn=20)), flush=True)
    print(json.dumps(acting(args.repeats)), flush=True)
    for name in ENCODERS:
        print(json.dumps(logged_bytes(name)), flush=True)
    for name in ENCODERS:
        print(json.dumps(updates(name, args.turns, per_turn=5)), flush=True)


if __name__ == "__main__":
    main()

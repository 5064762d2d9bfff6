"""The programs over real sockets: the simulated arm behind its server, a learner's end on ZeroMQ."""

import dataclasses
import json
import signal
import sys
import threading
import time

import jax
import msgspec
import numpy as np
import pytest
import tyro

from actors import main
from actors.main import (
    GIL_INTERVAL_S,
    ActorArgs,
    EvalArgs,
    Program,
    RecordArgs,
    load_acting_policy,
    run_actor,
    run_eval,
    run_record,
    seeds,
)
from actors.record import Recording
from actors.spool import Spool
from actors.teleop.choice import TeleopKind
from actors.teleop.puck import OperatorSide, SpaceMouseConfig
from examples.ram_insertion import CONFIG
from robot_servers.service import RobotService
from robot_servers.sim.backend import MujocoBackend
from robot_servers.testing import serving
from serl_core.agents.policy import PolicyConfig, TanhGaussianPolicy
from serl_core.agents.sac import SacConfig
from serl_core.data.episode_log import load_episodes
from serl_core.envs.task import load_task
from serl_core.errors import ConfigError, DataError, RobotError, TransportError
from serl_core.networks.perception import perception_for
from serl_core.networks.weights import save_policy
from serl_core.testing.episodes import make_episode
from serl_core.testing.fakes import FakeRobot
from serl_core.transport.interface import PolicyWeights
from serl_core.transport.zmq_transport import ZmqLearnerLink
from serl_core.types import EndReason
from tests.actors.teleop.fake_hidapi import COMPACT_AT_REST, COMPACT_DOWN, FakeHidapi

TOKEN = "t" * 64
FACTS = {"task_digest": CONFIG.digest(), "sac": msgspec.to_builtins(SacConfig())}
CLOSED = "http://127.0.0.1:9"  # nothing listens there


@pytest.fixture(scope="module")
def robot():
    with serving(RobotService(MujocoBackend("ram_insertion", is_lockstep=True)), TOKEN) as url:
        yield url


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return path


@pytest.fixture
def policy_file(tmp_path):
    path = tmp_path / "policy.safetensors"
    save_policy(path, first_policy(), FACTS)
    return path


def first_policy():
    policy = TanhGaussianPolicy(CONFIG.env_spec(), PolicyConfig())
    return jax.tree.map(np.array, policy.init(key=jax.random.key(0)))


def test_demonstrations_are_recorded_from_the_server(robot, token_file, tmp_path):
    run_record(RecordArgs(task="ram_insertion", out=tmp_path / "demos", count=2, robot=robot, token_file=token_file))
    episodes = list(load_episodes(tmp_path / "demos"))
    assert [episode[-1].end for episode in episodes] == [EndReason.SUCCESS] * 2
    assert all(transition.is_intervention for episode in episodes for transition in episode)


def test_the_actor_serves_its_learner_until_that_has_finished(robot, token_file, tmp_path):
    received = []

    def learn(link):
        link.publish(PolicyWeights(1, first_policy(), 0))
        while len(received) < 30 or link.counters()["connected"]:
            got = link.receive(0.2)
            received.extend(got)
            if got:
                link.acknowledge(got[-1].provenance.session, got[-1].provenance.sequence)
            link.report(len(received), len(received), len(received) >= 30)

    with ZmqLearnerLink(CONFIG.digest()) as link:
        learner = threading.Thread(target=learn, args=(link,))
        learner.start()
        args = ActorArgs(task="ram_insertion", run=tmp_path, robot=robot, learner=link.address, token_file=token_file)
        assert run_actor(args) == 0
        learner.join()
    assert [t.provenance.sequence for t in received] == list(range(len(received)))
    assert {t.provenance.policy_version for t in received} == {1}


def test_an_evaluation_writes_its_result(robot, token_file, policy_file, tmp_path):
    out = tmp_path / "eval.json"
    run_eval(EvalArgs(task="ram_insertion", policy=policy_file, out=out, trials=1, robot=robot, token_file=token_file))
    result = json.loads(out.read_text())
    assert (result["task"], result["trials"]) == ("ram_insertion", 1)


def test_an_evaluation_that_waits_for_pictures_can_be_stopped(robot, token_file, policy_file, tmp_path, monkeypatch):
    def waiting(*_, sleep, **__):
        signal.raise_signal(signal.SIGTERM)
        sleep(60.0)

    monkeypatch.setattr(main, "evaluate", waiting)
    args = EvalArgs(task="ram_insertion", policy=policy_file, out=tmp_path / "x", robot=robot, token_file=token_file)
    with pytest.raises(SystemExit) as ended:
        run_eval(args)
    assert ended.value.code == 0


@pytest.mark.parametrize(
    "run",
    [
        lambda robot, policy, path: run_record(
            RecordArgs(task="ram_insertion", out=path, count=1, robot=robot, token_file=path / "token")
        ),
        lambda robot, policy, path: run_eval(
            EvalArgs(
                task="ram_insertion", policy=policy, out=path / "x", trials=1, robot=robot, token_file=path / "token"
            )
        ),
    ],
    ids=["record", "eval"],
)
def test_a_tick_waits_for_no_thread_of_a_camera(run, robot, token_file, policy_file, tmp_path, monkeypatch):
    """Only the actor let its threads take turns often enough."""
    intervals_s = []
    monkeypatch.setattr(sys, "setswitchinterval", intervals_s.append)
    run(robot, policy_file, tmp_path)
    assert intervals_s == [GIL_INTERVAL_S]


def test_a_learner_that_is_not_there_is_named(robot, token_file, tmp_path):
    args = ActorArgs(
        task="ram_insertion",
        run=tmp_path,
        robot=robot,
        learner="tcp://127.0.0.1:9",
        token_file=token_file,
        learner_timeout_s=0.3,
    )
    with pytest.raises(TransportError, match=r"tcp://127\.0\.0\.1:9 within 0\.3 s: start one with `serl learner`"):
        run_actor(args)


SEEN = """
import dataclasses
from examples.ram_insertion import CONFIG
from serl_core.config import ObservationConfig
from serl_core.image_config import CameraConfig, EncoderConfig, EncoderKind
from serl_core.envs.task import Task

CAMERAS = (CameraConfig(name="wrist", height=32, width=32),)
OBSERVATION = ObservationConfig(cameras=CAMERAS, encoder=EncoderConfig(kind=EncoderKind.RANDOM))
TASK = Task(config=dataclasses.replace(CONFIG, observation=OBSERVATION))
"""


def test_a_learner_with_another_encoder_refuses_the_actor_before_it_touches_the_robot(token_file, tmp_path):
    (tmp_path / "seen.py").write_text(SEEN)
    task = str(tmp_path / "seen.py")
    with ZmqLearnerLink(load_task(task).config.digest("small-cafe")) as link:
        args = ActorArgs(task=task, run=tmp_path, robot=CLOSED, learner=link.address, token_file=token_file)
        with pytest.raises(TransportError, match=r"encoder random-[0-9a-f]{16}, the learner's from small-cafe"):
            run_actor(args)


def test_a_robot_server_that_is_not_there_is_named(token_file, policy_file, tmp_path):
    with pytest.raises(RobotError, match=r"127\.0\.0\.1:9.*serl robot-server"):
        run_record(RecordArgs(task="ram_insertion", out=tmp_path, robot=CLOSED, token_file=token_file))


class RealArm(FakeRobot):
    """An arm that is not simulated, and takes its time."""

    def __init__(self):
        super().__init__(CONFIG.reset.pose, CONFIG.target_pose, is_lockstep=False)

    def health(self):
        return msgspec.structs.replace(super().health(), backend="franky", is_simulated=False)

    def step(self, *args, **options):
        time.sleep(0.005)
        return super().step(*args, **options)


@pytest.fixture
def arm(monkeypatch):
    arm = RealArm()
    monkeypatch.setattr("actors.main.HttpRobot", lambda *_, **__: arm)
    return arm


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (TeleopKind.AUTO, "say who is at the device: give --teleop spacemouse"),
        (TeleopKind.SCRIPTED, "is for simulated robots"),
        (TeleopKind.NONE, "then nobody demonstrates"),
        (TeleopKind.SPACEMOUSE, "SpaceMouse: none is connected"),
    ],
)
def test_a_teleop_that_cannot_be_leaves_a_real_arm_untouched(kind, told, arm, tmp_path, monkeypatch):
    monkeypatch.setattr("easyhid.easyhid.hidapi", FakeHidapi())
    with pytest.raises(ConfigError, match=told):
        run_record(RecordArgs(task="ram_insertion", out=tmp_path, teleop=kind))
    assert arm.calls == []


def test_the_scripted_human_never_corrects_a_policy_on_a_real_arm(arm, tmp_path):
    with (
        ZmqLearnerLink(CONFIG.digest()) as link,
        pytest.raises(ConfigError, match=r"'franky' is real; give --teleop spacemouse, browser or none"),
    ):
        run_actor(ActorArgs(task="ram_insertion", run=tmp_path, learner=link.address, teleop=TeleopKind.SCRIPTED))
    assert arm.calls == []


def test_where_there_is_no_arm_behind_a_real_driver_the_scripted_human_may_act(arm, tmp_path):
    args = RecordArgs(task="ram_insertion", out=tmp_path, count=1, mock_robot=True)
    assert run_record(args) == 0
    assert len(list(load_episodes(tmp_path))) == 1


ABOVE = """
import dataclasses
from examples.ram_insertion import CONFIG
from serl_core.envs.task import Task

X, Y, Z, *DOWN = CONFIG.target_pose
RESET = dataclasses.replace(
    CONFIG.reset, pose=(X, Y, Z + 0.03, *DOWN), randomise_m=(0.0,) * 3, randomise_rz_rad=0.0, lift_to_z_m=None
)
TASK = Task(config=dataclasses.replace(CONFIG, reset=RESET))
"""


def test_a_person_demonstrates_on_a_real_arm_by_pushing_a_puck(arm, tmp_path, monkeypatch):
    """The task has no scripted expert, and its start lies straight above its target."""
    (tmp_path / "above.py").write_text(ABOVE)
    hidapi = FakeHidapi()
    hidapi.plug("/dev/hidraw1")
    monkeypatch.setattr("easyhid.easyhid.hidapi", hidapi)
    is_over = threading.Event()

    def push():
        while not is_over.wait(0.01):
            is_waiting = arm.calls.count("step") < 3
            hidapi.send("/dev/hidraw1", *(COMPACT_AT_REST if is_waiting else COMPACT_DOWN))

    person = threading.Thread(target=push)
    person.start()
    slow = SpaceMouseConfig(translation_scale=0.1)
    args = RecordArgs(
        task=str(tmp_path / "above.py"), out=tmp_path / "out", count=1, teleop=TeleopKind.SPACEMOUSE, spacemouse=slow
    )
    try:
        assert run_record(args) == 0
    finally:
        is_over.set()
        person.join()
    (episode,) = load_episodes(tmp_path / "out")
    assert episode[-1].end is EndReason.SUCCESS
    assert all(step.is_intervention for step in episode)
    np.testing.assert_allclose(episode[-1].action, [0, 0, 0.1, 0, 0, 0], atol=1e-6)  # along the tool, which points down


def test_with_nobody_at_the_device_the_policy_acts_alone(arm, tmp_path):
    received = []

    def learn(link):
        link.publish(PolicyWeights(1, first_policy(), 0))
        while len(received) < 30 or link.counters()["connected"]:
            received.extend(got := link.receive(0.2))
            if got:
                link.acknowledge(got[-1].provenance.session, got[-1].provenance.sequence)
            link.report(len(received), len(received), len(received) >= 30)

    with ZmqLearnerLink(CONFIG.digest()) as link:
        learner = threading.Thread(target=learn, args=(link,))
        learner.start()
        args = ActorArgs(task="ram_insertion", run=tmp_path, learner=link.address, teleop=TeleopKind.NONE)
        assert run_actor(args) == 0
        learner.join()
    assert not any(transition.is_intervention for transition in received)


def test_who_is_at_the_device_is_chosen_on_the_command_line():
    given = "--task t --out o --teleop spacemouse --spacemouse.devices S1 S2 --spacemouse.operator left"
    args = tyro.cli(RecordArgs, args=given.split())
    assert args.teleop is TeleopKind.SPACEMOUSE
    assert args.spacemouse == SpaceMouseConfig(devices=("S1", "S2"), operator=OperatorSide.LEFT)
    default = tyro.cli(ActorArgs, args=["--task", "t", "--run", "r"])
    assert default.teleop is TeleopKind.AUTO
    assert dataclasses.asdict(default.spacemouse) == dataclasses.asdict(SpaceMouseConfig())


def test_what_the_classifier_gets_wrong_in_a_demonstration_is_kept_beside_them(token_file, tmp_path, monkeypatch):
    loops = []

    def recorded(loop, *_, **__):
        loops.append(loop)
        return Recording((), 0)

    monkeypatch.setattr("actors.main.record", recorded)
    monkeypatch.setattr("actors.main.HttpRobot", lambda *_, **__: FakeRobot(CONFIG.reset.pose, CONFIG.target_pose))
    run_record(RecordArgs(task="ram_insertion", out=tmp_path, token_file=token_file))
    (loop,) = loops
    loop._review.see({"wrist": np.zeros((16, 16, 3), np.uint8)}, loop._env.robot.state(), 0.9)
    assert loop._review.keep(is_success=False).parent == tmp_path / "false_positives"


def test_a_missing_policy_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.safetensors: no such policy file"):
        run_eval(EvalArgs(task="ram_insertion", policy=tmp_path / "nowhere.safetensors", out=tmp_path / "eval.json"))


def test_a_policy_file_that_does_not_say_its_network_is_refused(tmp_path):
    path = tmp_path / "policy.safetensors"
    save_policy(path, first_policy(), {"task_digest": CONFIG.digest()})
    with pytest.raises(DataError, match="does not say what task and network it is of"):
        load_acting_policy(path, CONFIG, perception_for(CONFIG))


def test_a_policy_of_another_task_is_refused_with_both_digests(tmp_path):
    """The task's digest stood in the file and nobody looked at it."""
    path = tmp_path / "policy.safetensors"
    save_policy(path, first_policy(), FACTS | {"task_digest": "beef"})
    sentence = rf"policy\.safetensors belongs .* digest beef, .* has {CONFIG.digest()}: evaluate it with the task"
    with pytest.raises(DataError, match=sentence):
        load_acting_policy(path, CONFIG, perception_for(CONFIG))


def test_a_policy_for_another_encoder_says_which_and_what_to_set(tmp_path):
    path = tmp_path / "policy.safetensors"
    save_policy(path, first_policy(), FACTS | {"task_digest": f"{CONFIG.digest()}+resnet10-2"})
    with pytest.raises(DataError, match=r"encoder resnet10-2 and this machine takes none: set EncoderConfig\.kind"):
        load_acting_policy(path, CONFIG, perception_for(CONFIG))


def test_an_actor_does_not_take_over_what_one_of_another_encoder_left(token_file, tmp_path):
    """The learner compared the new actor's encoder, and then got the features of the old one's."""
    with Spool(tmp_path / "actor-0.spool", digest=f"{CONFIG.digest()}+small-cafe") as spool:
        spool.append(make_episode()[0])
    args = ActorArgs(task="ram_insertion", run=tmp_path, robot=CLOSED, token_file=token_file)
    with pytest.raises(DataError, match=r"actor-0\.spool .*encoder small-cafe and this machine takes none"):
        run_actor(args)


def test_an_actor_that_may_not_go_before_others_says_so_before_anything_else(tmp_path, monkeypatch):
    def refuse():
        raise ConfigError("--real-time-priority: the system does not grant it")

    monkeypatch.setattr("actors.main.go_before_others", refuse)
    with pytest.raises(ConfigError, match="real-time-priority"):
        run_actor(ActorArgs(task="nowhere", run=tmp_path, real_time_priority=True))


def test_a_task_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ConfigError, match="task 'no_such_task'"):
        run_record(RecordArgs(task="no_such_task", out=tmp_path))


@pytest.mark.parametrize("bad", [{"max_lead_steps": 0}, {"steps": 0}])
def test_counts_below_one_are_refused(bad, tmp_path):
    with pytest.raises(ConfigError, match=f"ActorArgs.{next(iter(bad))}: must be at least 1, got 0"):
        ActorArgs(task="ram_insertion", run=tmp_path, **bad)


def test_no_two_programs_or_parts_share_random_numbers_for_one_seed():
    drawn = [number for program in Program for seed in (0, 1) for number in seeds(seed, program)]
    assert len(set(drawn)) == len(drawn)
    assert seeds(3, Program.ACTOR) == seeds(3, Program.ACTOR)

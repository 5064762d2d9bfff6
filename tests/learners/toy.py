"""Trainers on the toy world, small enough for tests."""

from learners.checkpoints import Checkpoints
from learners.trainer import Trainer, TrainerConfig
from serl_core.clock import ManualClock
from serl_core.data.episode_log import EpisodeLog
from serl_core.networks.perception import Perception
from tests.serl_core.agents.toy import SPEC, config, stream

PERCEPTION = Perception("toy", None, SPEC, SPEC)
SAC = config(batch_size=8, utd_ratio=2)


class Run:
    """A run folder with an open log and a trainer; `stop` it before opening it again."""

    def __init__(self, folder, *, sac=SAC, seed=0, training_starts=20, **options):
        self.clock = ManualClock()  # the log syncs when this has moved on by a second
        self.log = EpisodeLog(folder / "experience", "toy", clock=self.clock)
        self.checkpoints = Checkpoints(folder / "checkpoints")
        trainer_config = TrainerConfig(sac=sac, seed=seed, training_starts=training_starts, **options)
        self.trainer = Trainer(PERCEPTION, trainer_config, [stream(7, 30, "demos")], self.log, self.checkpoints)

    def take(self, transitions):
        """Log, insert and update in lockstep."""
        for transition in transitions:
            self.log.append([transition])
            self.log.save_ended()
            self.learn([transition])

    def learn(self, logged):
        for transition in logged:
            self.trainer.insert([transition])
            self.pay()

    def pay(self):
        while self.trainer.can_update():
            self.trainer.update()

    def stop(self):
        self.log.close()

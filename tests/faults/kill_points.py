"""Where tests kill: each as `SERL_FAILPOINT` has it, the point and at which pass of it.

`test_processes.py` holds this list against the sources: a new failpoint needs a program that dies there.
"""

LEARNER = (
    "checkpoint.begun:1",
    "checkpoint.complete:1",
    *(f"checkpoint.file_{name}:{nth}" for name in ("opened", "written", "synced") for nth in (1, 2, 3)),
    "checkpoint.old_removed:1",
    "checkpoint.renamed:1",
    "checkpoint.safe:1",
    *(f"file.{name}:{nth}" for name in ("opened", "written", "synced") for nth in (1, 3)),  # learner.json; an episode
    *(f"file.{name}:{nth}" for name in ("renamed", "folder_synced") for nth in (1, 3)),
    "learner.acknowledged:1",
    "learner.appended:1",
    "learner.checkpoint_begun:1",
    "learner.inserted:6",
    "learner.published:1",
    "learner.received:3",
    "learner.updated:4",
    "link.learner:1",
    "log.episode_saved:1",
    "log.folder_synced:1",
    "log.journal_removed:1",
    "log.journal_synced:1",
    "log.journal_write:5",
    "log.journal_written:1",
    "metrics.write:2",
    "metrics.written:2",
)
LEARNER_CORRECTED = (  # one that a person's correction of an episode waits for
    "relabel.apply:1",
    "line.opened:1",
    "line.written:1",
    "line.synced:1",
    "relabel.applied:1",
)
LEARNER_AT_ITS_END = ("weights.opened:1", "weights.written:1", "weights.synced:1", "weights.renamed:1")
ACTOR = (
    "link.actor:9",
    "spool.acknowledge:2",
    "spool.acknowledged:1",
    "spool.append:1",
    "spool.append:12",
    "spool.appended:1",
    "spool.sync:1",
    "spool.synced:1",
    "spool.amend:1",  # of a success that is vetoed; again at its start, for the one that was killed before
    "spool.amend:1",
    "spool.amended:1",
    "spool.amended:1",
    "line.opened:1",  # of the vetoes
    "line.written:1",
    "line.synced:1",
)
ACTOR_ON_ARM = ("robot.renew_lease:4",)
CONSOLE = ("line.opened:3", "line.written:3", "line.synced:3")

ALL = (*LEARNER, *LEARNER_CORRECTED, *LEARNER_AT_ITS_END, *ACTOR, *ACTOR_ON_ARM, *CONSOLE)

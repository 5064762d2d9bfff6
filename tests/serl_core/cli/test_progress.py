from rich.console import Console

from serl_core.cli.progress import TrainingProgress
from serl_core.data.metrics_file import MetricsWriter


def test_a_training_that_has_stopped_says_why_although_its_learner_lives(tmp_path):
    progress = TrainingProgress(tmp_path, 100, Console(quiet=True))
    with MetricsWriter(tmp_path / "metrics.jsonl") as metrics:
        metrics.write("event", {"event": "checkpoint_failed", "reason": "no space"})
        progress.update()
        assert progress.failure is None
        metrics.write("event", {"event": "failed", "reason": "not finite"})
        metrics.write("event", {"event": "stopped"})
        progress.update()
    assert progress.failure == "not finite"

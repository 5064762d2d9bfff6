from pathlib import Path

from serl_core.cli.train import TrainArgs, train


def test_synchronous_training_is_the_same_to_the_bit_for_a_seed(tmp_path: Path):
    def run(name: str, seed: int) -> str:
        return train(TrainArgs(run=tmp_path / name, sync=True, seed=seed, steps=130, demonstrations=1, trials=0))

    first = run("first", 3)
    assert run("second", 3) == first
    assert run("other", 4) != first

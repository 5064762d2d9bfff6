import numpy as np
import pytest

from serl_core.data import rings
from serl_core.data.memory import STEP_BYTES, available_bytes, check_memory, frame_bytes
from serl_core.data.replay_buffer import ReplayBuffer
from serl_core.errors import ConfigError
from serl_core.testing.episodes import PIXEL_SPEC, STATE_SPEC


def test_the_bytes_of_a_frame_are_those_that_the_buffer_takes():
    buffer = ReplayBuffer(PIXEL_SPEC, 10)
    arrays = [
        buffer._frames.proprio,
        *buffer._frames.images.values(),
        *buffer._frames.features.values(),
        buffer._action,
    ]
    assert 10 * frame_bytes(PIXEL_SPEC) == sum(array.nbytes for array in arrays) + 10 * STEP_BYTES


def test_frames_beyond_the_memory_are_refused_with_both_numbers_and_the_remedy():
    """FAULTS M2: a run whose buffer outgrew the memory was killed hours later."""
    size = frame_bytes(STATE_SPEC)
    check_memory(STATE_SPEC, 80, 100 * size)
    with pytest.raises(
        ConfigError, match=rf"81 frames of {size} bytes take .* GiB .*online_capacity\), or free memory"
    ):
        check_memory(STATE_SPEC, 81, 100 * size)


def test_an_allocation_that_fails_says_the_same(monkeypatch):
    def zeros(*_):
        raise MemoryError

    monkeypatch.setattr(rings.np, "zeros", zeros)
    with pytest.raises(ConfigError, match=r"replay buffer: 200000 frames .* take 0\.0\d+ GiB"):
        ReplayBuffer(STATE_SPEC, 200_000)


def test_the_available_memory_counts_what_the_system_would_give_back(tmp_path):
    info = tmp_path / "meminfo"
    info.write_text("MemTotal:  9 kB\nMemFree:   2 kB\nMemAvailable:   7 kB\n")
    assert available_bytes(info) == 7 * 1024
    info.write_text("MemTotal:  9 kB\n")
    assert available_bytes(info) == available_bytes(tmp_path / "none") > 2**28
    assert np.iinfo(np.int64).max > available_bytes() > 0

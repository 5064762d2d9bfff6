"""One compiled program for all trainers of a configuration: an agent holds no state."""

import pytest

from serl_core.agents.sac import Sac

AGENTS = {}


@pytest.fixture(autouse=True)
def shared_agents(monkeypatch):
    def shared(spec, config, frozen=None):
        key = config, repr(spec), frozen and frozen.__self__.identity
        if key not in AGENTS:
            AGENTS[key] = Sac(spec, config, frozen)
        return AGENTS[key]

    monkeypatch.setattr("learners.trainer.Sac", shared)

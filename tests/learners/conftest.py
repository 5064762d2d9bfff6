"""One compiled program for all trainers of a configuration: an agent holds no state."""

import pytest

from serl_core.agents.sac import Sac

AGENTS = {}


@pytest.fixture(autouse=True)
def shared_agents(monkeypatch):
    def shared(spec, config):
        if config not in AGENTS:
            AGENTS[config] = Sac(spec, config)
        return AGENTS[config]

    monkeypatch.setattr("learners.trainer.Sac", shared)

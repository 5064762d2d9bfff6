import pytest

from tests.actors.teleop.fake_hidapi import FakeHidapi


@pytest.fixture
def hidapi(monkeypatch):
    fake = FakeHidapi()
    monkeypatch.setattr("easyhid.easyhid.hidapi", fake)
    return fake

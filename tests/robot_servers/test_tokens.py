"""Tokens: one per role, made once, for their owner alone."""

import stat

import pytest

from robot_servers.tokens import Tokens, load_or_create_token, load_or_create_tokens
from serl_core.errors import ConfigError
from serl_core.robots.token import Role


def test_each_role_has_a_token_of_its_own_for_its_owner_alone(tmp_path):
    path = tmp_path / "config" / "robot.token"
    tokens = load_or_create_tokens(path)
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "robot.admin.token", "robot.observe.token", "robot.token",
    ]  # fmt: skip
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert len(set(tokens)) == 3
    assert tokens.control == path.read_text().strip()
    assert load_or_create_tokens(path) == tokens
    assert [tokens.role_of(f"Bearer {getattr(tokens, role.value)}".encode()) for role in Role] == list(Role)


@pytest.mark.parametrize(
    "authorization", [b"", b"Bearer ", b"Bearer None", b"Bearer x", b"c", b"bearer c", b"Bearer c "]
)
def test_what_is_no_token_has_no_role(authorization):
    assert Tokens(control="c").role_of(authorization) is None


def test_a_single_token_may_do_everything():
    assert Tokens.single("t").role_of(b"Bearer t") is Role.ADMIN


def test_an_observer_with_a_copy_of_the_controllers_token_is_found_at_the_start(tmp_path):
    path = tmp_path / "robot.token"
    load_or_create_tokens(path)
    (tmp_path / "robot.observe.token").write_text(path.read_text())
    with pytest.raises(ConfigError, match="are the same"):
        load_or_create_tokens(path)


def test_the_token_is_made_once_and_for_its_owner_alone(tmp_path):
    path = tmp_path / "config" / "robot.token"
    token = load_or_create_token(path)
    assert len(bytes.fromhex(token)) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_token(path) == token
    assert load_or_create_token(tmp_path / "another") != token


def test_a_token_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "robot.token"
    load_or_create_token(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="mode 0644"):
        load_or_create_token(path)


def test_a_token_file_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"robot\.token"):
        load_or_create_token(tmp_path / "file" / "robot.token")

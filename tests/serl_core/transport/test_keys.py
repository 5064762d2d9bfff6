import json

import pytest

from serl_core.cli.keys import AddKey, InitKeys, RevokeKey, run_keys
from serl_core.errors import ConfigError
from serl_core.transport.keys import (
    add_actor,
    admitted_keys,
    create_keys,
    load_actor_keys,
    load_learner_keys,
    revoke_actor,
)


@pytest.fixture
def folder(tmp_path):
    create_keys(tmp_path / "keys", ["one", "two"])
    return tmp_path / "keys"


def test_each_actor_gets_a_pair_of_its_own_and_the_learners_public_key(folder):
    learner = load_learner_keys(folder)
    actors = [load_actor_keys(folder / "for_actors" / f"{name}.json") for name in ("one", "two")]
    assert {actor.learner_public for actor in actors} == {learner.public}
    assert len({learner.secret, *(actor.secret for actor in actors)}) == 3
    assert admitted_keys(folder) == {actors[0].public: "one", actors[1].public: "two"}


def test_nobody_else_can_read_a_key_file(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 5
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_key_file_that_others_can_read_is_not_used(folder):
    path = folder / "learner.json"
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="open to other users; `chmod 600` it"):
        load_learner_keys(folder)


def test_keys_are_not_made_twice(folder):
    with pytest.raises(ConfigError, match="has keys already; `serl keys add`"):
        create_keys(folder, ["one"])
    with pytest.raises(ConfigError, match="'one' already; revoke it first"):
        add_actor(folder, "one")


def test_a_revoked_actor_may_get_new_keys(folder):
    before = load_actor_keys(folder / "for_actors" / "one.json")
    revoke_actor(folder, "one")
    assert list(admitted_keys(folder).values()) == ["two"]
    assert load_actor_keys(add_actor(folder, "one")).public != before.public


def test_who_is_not_there_cannot_be_revoked(folder):
    with pytest.raises(ConfigError, match="no actor 'three'; there are one, two"):
        revoke_actor(folder, "three")


@pytest.mark.parametrize("name", ["", "../one", "a b", "x" * 65])
def test_a_name_is_one_of_a_file(folder, name):
    with pytest.raises(ConfigError, match="1 to 64 letters"):
        add_actor(folder, name)


def test_a_file_of_another_kind_is_named(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"learner\.json is not one of this kind"):
        load_actor_keys(folder / "learner.json")
    with pytest.raises(ConfigError, match=r"cannot be read .*; `serl keys init` makes it"):
        load_learner_keys(tmp_path)


def test_a_broken_file_admits_nobody_and_shuts_nobody_out(folder):
    path = folder / "admitted" / "one.json"
    path.write_text(json.dumps({"public": "short"}))
    assert list(admitted_keys(folder).values()) == ["two"]


def test_the_command_says_what_to_do_with_the_files(tmp_path, capsys):
    folder = tmp_path / "keys"
    assert run_keys(InitKeys(folder=folder, actors=("robot-1",))) == 0
    assert run_keys(AddKey(folder=folder, actor="robot-2")) == 0
    assert run_keys(RevokeKey(folder=folder, actor="robot-1")) == 0
    said = capsys.readouterr().out
    assert f"copy {folder / 'for_actors' / 'robot-2.json'} to the machine of robot-2" in said
    assert "robot-1 may connect no more" in said
    assert list(admitted_keys(folder).values()) == ["robot-2"]

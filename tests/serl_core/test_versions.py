import pytest

from serl_core.versions import other_version


@pytest.mark.parametrize(
    ("found", "command"), [(9, "pip install --upgrade serl"), (1, "pip install 'serl<0.4'"), (None, "'serl<0.4'")]
)
def test_another_version_is_named_with_the_command_that_helps(found, command):
    sentence = other_version("a.json", found, 2, since="0.4")
    assert sentence.startswith(f"a.json is of version {found}, this program reads 2")
    assert command in sentence

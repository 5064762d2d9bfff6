"""A token file holds one token, in the characters that a bearer token may have."""

import pytest

from serl_core.errors import RobotError
from serl_core.robots.token import read_token


@pytest.mark.parametrize("text", ["0123abcd", "a.b_c~d+e/f-g==\n"])
def test_a_token_is_read_without_the_end_of_its_line(tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text)
    assert read_token(path) == text.strip()


@pytest.mark.parametrize("text", ["", "\n", "two words", "!!python/object", 'a"b', "a\nb", "=="])
def test_what_is_no_token_is_refused_by_the_name_of_its_file(tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(RobotError, match=r"token file .*token"):
        read_token(path)

"""Why a robot server could not be reached, and what to do."""

import pytest

from serl_core.robots.tls import why_not_there


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", "set $SERL_CA_FILE"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "is it http://?"),
        ("[Errno 111] Connection refused", "start one with `serl robot-server`"),
    ],
)
def test_the_remedy_fits_what_went_wrong(error, remedy):
    sentence = why_not_there("https://robot.lab:5000", OSError(error))
    assert "https://robot.lab:5000" in sentence
    assert error in sentence
    assert remedy in sentence


@pytest.mark.parametrize("url", ["nonsense", "127.0.0.1:5000", "ftp://127.0.0.1"])
def test_what_is_no_address_at_all_is_told_with_one_that_is(url):
    assert f"{url!r} is no address of a robot server; give one like http://" in why_not_there(url, ValueError())

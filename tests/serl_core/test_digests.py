import pytest

from serl_core.digests import not_of_here, other_encoder


@pytest.mark.parametrize(
    ("found", "here", "expected"),
    [
        ("cafe+small-1", "cafe+resnet10-2", ("small-1", "resnet10-2")),
        ("cafe", "cafe+small-1", ("none", "small-1")),
        ("cafe+small-1", "beef+resnet10-2", None),
        ("cafe", "cafe", None),
    ],
)
def test_the_encoders_are_told_only_where_nothing_else_differs(found, here, expected):
    assert other_encoder(found, here) == expected


def test_the_sentence_names_both_and_what_to_set():
    """It said "another configuration" where only the encoder's weights were missing on this machine."""
    told = not_of_here("log", "cafe+resnet10-2", "cafe+small-1", "take another folder")
    assert "features of the encoder resnet10-2 and this machine takes small-1" in told
    assert "EncoderConfig.kind, weights" in told
    assert told.endswith("or take another folder")
    assert not_of_here("log", "beef", "cafe", "take another folder") == (
        "log belongs to a task of digest beef, this one has cafe: take another folder"
    )

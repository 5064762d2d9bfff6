import pytest

from actors.operator_mail import GONE_S, REPEAT_S, WAITING, OperatorMail
from serl_core.operator.messages import OperatorNotice, RecordProgress
from tests.serl_core.operator.test_operator_messages import REPORT

PROGRESS = RecordProgress(what="demonstrations", kept=1, wanted=20)


def notice(text):
    return OperatorNotice(level="info", text=str(text))


@pytest.fixture
def mail():
    mail = OperatorMail()
    mail.add(b"ann", 0.0)
    return mail


def take(mail, now_s=0.0):
    """Return what each console is told, and count it as sent."""
    told = {}
    for console, waiting in mail.distribute(now_s):
        told[console] = list(waiting)
        waiting.clear()
    return told


def test_all_are_told_in_order_and_an_answer_goes_to_one(mail):
    mail.add(b"bob", 0.0)
    mail.answer(b"bob", notice("for bob"))
    mail.tell(notice(1))
    mail.tell(notice(2))
    assert take(mail) == {b"ann": [notice(1), notice(2)], b"bob": [notice("for bob"), notice(1), notice(2)]}
    assert take(mail) == {b"ann": [], b"bob": []}


def test_nothing_waits_while_nobody_looks_on_but_what_a_later_one_must_know():
    mail = OperatorMail()
    for message in (notice("gone"), REPORT, PROGRESS):
        mail.tell(message)
    assert not mail.is_watched
    mail.add(b"ann", 0.0)
    assert mail.is_watched
    assert take(mail) == {b"ann": [REPORT, PROGRESS]}


def test_what_is_not_taken_in_time_is_dropped_the_oldest_first(mail):
    for number in range(WAITING + 5):
        mail.tell(notice(number))
    assert mail.dropped == 5
    assert take(mail)[b"ann"][:2] == [notice(5), notice(6)]


def test_a_console_that_takes_nothing_drops_its_own_words_alone(mail):
    mail.add(b"slow", 0.0)
    for number in range(WAITING + 1):
        mail.tell(notice(number))
        for console, waiting in mail.distribute(0.0):
            if console == b"ann":
                waiting.clear()
    assert mail.dropped == 1


def test_the_last_report_is_repeated_while_there_is_nothing_new(mail):
    mail.tell(REPORT)
    assert take(mail, 10.0 * REPEAT_S) == {}  # ann has been silent
    mail.add(b"ann", 10.0 * REPEAT_S)
    take(mail, 10.0 * REPEAT_S)
    assert take(mail, 10.9 * REPEAT_S) == {b"ann": []}
    assert take(mail, 11.0 * REPEAT_S) == {b"ann": [REPORT]}
    assert take(mail, 11.1 * REPEAT_S) == {b"ann": []}


def test_who_is_silent_or_forgotten_is_told_nothing_any_more(mail):
    mail.add(b"bob", 0.0)
    mail.heard(b"ann", 0.5 * GONE_S)
    assert set(take(mail, GONE_S)) == {b"ann"}
    assert b"bob" not in mail
    mail.forget(b"ann")
    assert len(mail) == 0
    assert not mail.is_watched

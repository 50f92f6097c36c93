"""SQLSTATEs of failovers, proxies, shutdowns and limits: which statements are repeated."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from openreserve.domain.errors import Contention, DatabaseUnavailable
from openreserve.postgres import connection, sqlstates
from openreserve.postgres.sqlstates import Done
from tests.conftest import forget
from tests.support.scripted_postgres import (
    Fails,
    Row,
    ScriptedPostgres,
    Step,
    Vanishes,
    scripted_postgres,
)

REPLACED = {code: meant for code, meant in sqlstates.MEANINGS.items() if meant.reconnects}
KEPT = sqlstates.MEANINGS.keys() - REPLACED.keys()
ONE_OF_EACH_CLASS = {"08": "08P01", "25": "25P02", "26": "26000", "28": "28P01", "53": "53200"}
UNHANDLED = ["42P01", "23514", "22003", "XX000", "P0001"]


def sqlstate(code: str) -> str:
    """The code, or a code of the class that it names."""
    return ONE_OF_EACH_CLASS.get(code, code if len(code) == 5 else f"{code}000")


@pytest.fixture
def monkey(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    forget()


@contextmanager
def kept_connection(monkey: pytest.MonkeyPatch, *steps: Step) -> Iterator[ScriptedPostgres]:
    """A connection that has answered once and then follows the script."""
    with scripted_postgres(Row(), *steps) as postgres:
        monkey.setenv("DATABASE_URL", postgres.url)
        forget()
        assert sent() == 1
        yield postgres


def sent(*, repeatable: bool = True) -> int:
    """The number of the connection that executed the statement."""
    (row,) = connection.fetch_all("CALL verb(%(a)s)", {"a": 1}, repeatable=repeatable)
    return int(row["of_connection"])


@pytest.mark.parametrize("severity", ["ERROR", "FATAL"])
@pytest.mark.parametrize("code", sorted(REPLACED))
def test_a_failed_kept_connection_is_replaced_and_the_statement_sent_once_more(
    code: str, severity: str, monkey: pytest.MonkeyPatch
) -> None:
    with kept_connection(monkey, Fails(sqlstate(code), severity), Row()) as postgres:
        assert sent() == 2
        assert postgres.statements == [1, 1, 2]


@pytest.mark.parametrize("code", sorted(REPLACED))
def test_a_non_repeatable_statement_is_sent_again_only_if_it_had_no_effect(
    code: str, monkey: pytest.MonkeyPatch
) -> None:
    nothing_done = REPLACED[code].done is Done.NOTHING
    with kept_connection(monkey, Fails(sqlstate(code)), Row()) as postgres:
        if nothing_done:
            assert sent(repeatable=False) == 2
        else:
            with pytest.raises(DatabaseUnavailable):
                sent(repeatable=False)
        assert postgres.statements == ([1, 1, 2] if nothing_done else [1, 1])
        assert sent() == 2, "the connection that failed is gone"


@pytest.mark.parametrize("code", sorted(REPLACED))
def test_a_new_connection_that_fails_is_503_and_not_replaced_again(
    code: str, monkey: pytest.MonkeyPatch
) -> None:
    with kept_connection(monkey, Fails(sqlstate(code))) as postgres:
        with pytest.raises(DatabaseUnavailable):
            sent()
        assert postgres.statements == [1, 1, 2]


@pytest.mark.parametrize("code", sorted(KEPT - {"40P01"}))
def test_a_lock_timeout_is_retryable_and_keeps_the_connection(
    code: str, monkey: pytest.MonkeyPatch
) -> None:
    with kept_connection(monkey, Fails(code), Row()) as postgres:
        with pytest.raises(Contention):
            sent()
        assert sent() == 1
        assert postgres.statements == [1, 1, 1]


def test_a_deadlock_is_retried_three_times_over_the_same_connection(
    monkey: pytest.MonkeyPatch,
) -> None:
    with kept_connection(monkey, Fails("40P01")) as postgres:
        with pytest.raises(Contention):
            sent()
        assert postgres.statements == [1] * 5


@pytest.mark.parametrize("step", [Vanishes(), Fails("XX000", "FATAL"), Fails("P0042", "FATAL")])
@pytest.mark.parametrize("repeatable", [True, False])
def test_a_session_ended_by_the_server_has_an_unknown_outcome_for_any_code(
    step: Step, monkey: pytest.MonkeyPatch, *, repeatable: bool
) -> None:
    with kept_connection(monkey, step, Row()) as postgres:
        if repeatable:
            assert sent() == 2
        else:
            with pytest.raises(DatabaseUnavailable):
                sent(repeatable=False)
        assert postgres.statements == ([1, 1, 2] if repeatable else [1, 1])


@pytest.mark.parametrize("code", UNHANDLED)
def test_a_bug_is_not_reported_as_an_outage(code: str, monkey: pytest.MonkeyPatch) -> None:
    with kept_connection(monkey, Fails(code), Row()) as postgres:
        with pytest.raises(psycopg.Error) as raised:
            sent()
        assert raised.value.sqlstate == code
        assert sent() == 1
        assert postgres.connections == 1


def test_a_terminated_backend_may_have_committed_and_a_read_only_one_has_not() -> None:
    done = {code: meant.done for code, meant in sqlstates.MEANINGS.items()}

    assert {code for code, known in done.items() if known is Done.UNKNOWN} == {
        "57P01",
        "57P02",
        "57P04",
        "08",
        "58",
    }

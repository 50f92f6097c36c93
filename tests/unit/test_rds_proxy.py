"""The pinning rules of RDS Proxy that every statement of the suite is checked for."""

import pytest

from tests.support.rds_proxy import STATEMENT_BYTES_MAX, fault_of_startup, fault_of_statement


@pytest.mark.parametrize(
    "text",
    [
        "SET statement_timeout = '5s'",
        "set search_path to openreserve",
        "SELECT 1; SET x = 1",
        "-- why\nSET LOCAL lock_timeout = 0",
        "RESET ALL",
        "SELECT set_config('a.b', '1', true)",
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "PREPARE a AS SELECT 1",
        "EXECUTE a",
        "LISTEN news",
        "DECLARE c CURSOR FOR SELECT 1",
        "LOAD 'auto_explain'",
        "CREATE TEMP TABLE t ()",
        "CREATE TEMPORARY SEQUENCE s",
        "SELECT nextval('s')",
        "SELECT setval('s', 1)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1)",
    ],
)
def test_statements_that_pin_a_connection_are_detected(text: str) -> None:
    assert " pins: " in fault_of_statement("", text)


@pytest.mark.parametrize(
    "text",
    [
        "CALL openreserve.reserve($1)",
        "UPDATE openreserve.resources SET total_stock = 1",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2",
        "SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(2)",
        "-- no SET, no LISTEN\nSELECT 1",
        "SELECT /* DISCARD\nALL */ set_stock FROM offset_of, preloaded",
        "BEGIN",
    ],
)
def test_statements_that_do_not_pin_a_connection_are_accepted(text: str) -> None:
    assert fault_of_statement("", text) == ""


def test_prepared_and_too_long_statements_are_detected() -> None:
    assert fault_of_statement("_pg3_0", "SELECT 1").startswith("prepared as _pg3_0")
    assert fault_of_statement("", "SELECT 1 " + "-" * STATEMENT_BYTES_MAX).startswith("16393 bytes")


def test_an_unsupported_startup_parameter_is_detected() -> None:
    accepted = {"user": "a", "database": "b", "application_name": "c", "client_encoding": "UTF8"}

    assert fault_of_startup(accepted) == ""
    assert fault_of_startup(accepted | {"options": "-c x=1"}) == "start-up parameters: options"

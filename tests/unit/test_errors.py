"""Every error has a place in the class tree, a message, a status and a code."""

import re
from collections.abc import Iterator

from openreserve.domain import errors
from openreserve.domain.errors import BadRequest, Fault, NotFound, OpenReserveError, Refusal
from openreserve.domain.reservations import AFTER_COMMIT, AFTER_RELEASE, Status
from openreserve.http.problems import RETRY_AFTER_SECONDS, STATUSES

GROUPS = {OpenReserveError, Refusal, BadRequest, NotFound, Fault}


def descendants(of: type[OpenReserveError]) -> Iterator[type[OpenReserveError]]:
    for child in of.__subclasses__():
        yield child
        yield from descendants(child)


def test_the_tree_in_the_module_docstring_names_every_error() -> None:
    _, _, tree = (errors.__doc__ or "").partition("\n\n")
    drawn = set(re.findall(r"^[│├└─ ]*([A-Z]\w+)", tree, re.MULTILINE))

    assert drawn == {error.__name__ for error in descendants(OpenReserveError)}


def test_every_error_that_can_be_raised_has_a_status_and_a_unique_code() -> None:
    assert set(STATUSES) == set(descendants(OpenReserveError)) - GROUPS
    codes = [code for _, code in STATUSES.values()]
    assert len(set(codes)) == len(codes)


def test_every_error_has_a_one_sentence_message() -> None:
    for error in STATUSES:
        assert error.__doc__, error
        assert error.__doc__.endswith("."), error
        assert " not " in error.sentence() or error.sentence().startswith("Nothing "), error


def test_only_transient_errors_have_a_retry_after() -> None:
    faults = {error for error in STATUSES if issubclass(error, Fault)}

    assert set(RETRY_AFTER_SECONDS) == faults | {errors.IdempotencyInProgress}
    assert {STATUSES[error][0] for error in faults} == {503}


def test_commit_and_release_handle_every_final_status() -> None:
    ended = set(Status) - {Status.HELD}

    assert set(AFTER_COMMIT) == ended
    assert set(AFTER_RELEASE) == ended

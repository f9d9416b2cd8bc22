"""The message about a run all of whose rows failed."""

from vsp.storage.ledger import FAILED, Ledger, failure_of_all


def _failed(start, reasons):
    ledger = Ledger.blank(start, start + len(reasons))
    ledger.state[:] = FAILED
    ledger.failed.update(enumerate(reasons, start))
    return ledger


def test_reasons_that_differ_in_names_and_numbers_are_one():
    broken = [f"image '/x/{row}.png' cannot be read: byte {row}" for row in range(4)]
    ledgers = [_failed(0, broken[:2]), _failed(2, [*broken[2:], "out of memory"])]
    assert failure_of_all(ledgers).startswith(
        "all 5 rows failed, 4 of them such as \"image '/x/0.png' cannot be read: byte 0\"; mend"
    )
    assert failure_of_all(ledgers[:1]).startswith("all 2 rows failed, such as")


def test_there_is_no_failure_of_all_while_a_row_may_be_used():
    assert failure_of_all([]) == ""
    assert failure_of_all([_failed(0, ["x"]), Ledger.blank(1, 2)]) == ""

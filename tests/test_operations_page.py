"""docs/operations.md is what the tables say."""

from tests.operations_page import PAGE, page


def test_the_page_is_that_of_the_tables():
    assert PAGE.read_text() == page(), "docs/operations.md is stale: run `make docs`"


def test_links_and_code_of_the_page_are_balanced():
    for line in page().splitlines():
        assert line.count("`") % 2 == 0
        if line.startswith("|"):
            assert line.count(" | ") in (2, 3)

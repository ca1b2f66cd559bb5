"""README.md and docs/models.md say of the trainings what docs/results.json says, each figure once."""

import re

import pytest

from tests.results_page import PAGES, RESULTS, TABLE, table


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_results(page):
    tables = [match[0] for match in TABLE.finditer(page.read_text())]
    assert tables == [table(PAGES[page])], f"{page.name} is stale: run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_gives_a_time_or_an_accuracy_of_its_own(page):
    """A command for these trainings beside a percentage or a time stands only in the generated table."""
    rest = TABLE.sub("", page.read_text())
    for line in rest.splitlines():
        if any(each["command"] in line for each in RESULTS["trainings"]):
            assert not re.search(r"\d ?%|\d+ (s|min)\b", line), line


def test_every_result_says_when_and_where():
    for each in RESULTS["trainings"]:
        assert each.keys() == {"network", "command", "tested_on", "accuracy", "time", "machine", "date"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", each["date"])
        assert re.fullmatch(r"\d\d\.\d+ %", each["accuracy"])

"""Whatever stands in the place of an argument: it works, or a ValueError or TypeError names the argument."""

import inspect

import pytest

from tests import arguments

ROWS = [(module, name, row) for module, make in arguments.TABLES.items() for name, row in make().items()]

# What has no row: it has no arguments, is called by `fit` and not by users, or only holds what its maker checked.
RECORDS = {
    "analysis": {
        "ReceptiveField",
        "Row",
        "Summary",
        "multiply_adds",
        "see_through",
    },  # the last two are tables of rules
    "diagnose": {
        *("ActivationStatistics", "Activations", "DeadReLUs", "Gradients", "InitialLoss", "Overfit", "Report"),
        "UpdateRatios",
    },
    "callbacks": {"Run"},
    "losses": {"Loss"},
    "nas": {
        *("Candidate", "CellNode", "Decision", "MacroArchitecture", "MacroLayer", "MicroArchitecture", "SearchResult"),
        *("Space", "draw"),  # which needs matplotlib
    },
    "optimizers": {"Step"},
    "training": {"Run"},
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Files that a call writes go to a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("module", arguments.TABLES)
def test_every_public_callable_has_its_row(module):
    table, records = arguments.TABLES[module](), RECORDS.get(module, set())
    missing = {name for name in arguments.public(module) if "." not in name} - table.keys() - records
    assert not missing
    assert not records & table.keys()


@pytest.mark.parametrize(("module", "name", "row"), ROWS, ids=[f"{module}.{name}" for module, name, _ in ROWS])
def test_rows_have_every_argument_and_are_valid(module, name, row):
    function, given = row()
    if name.partition(".")[2] != "applied":  # a context, entered by the row
        own = inspect.signature(function).parameters.values()
        assert {each.name for each in own if each.kind is not each.VAR_KEYWORD} <= {*given, "args"}
    with arguments.limited(arguments.SECONDS):
        function(**given)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, about numbers that are too large
@pytest.mark.parametrize(("module", "name", "row"), ROWS, ids=[f"{module}.{name}" for module, name, _ in ROWS])
def test_what_no_argument_expects_is_named(module, name, row):
    wrong = {}
    for argument in row()[1]:
        for label, make in arguments.HOSTILE.items():
            if argument in arguments.WORK and label == "NumPy's int8":
                continue
            found = arguments.outcome(row, {argument: make})
            if found is not None:
                wrong[argument, label] = found
    assert not wrong


def test_the_outcomes_that_are_refused():
    """The test itself can fail."""

    def row(error):
        def function(x):
            raise error

        return lambda: (function, {"x": 0})

    changes = {"x": lambda: None}
    assert arguments.outcome(row(TypeError("op: `x` must be a number")), changes) is None
    assert "does not name it" in arguments.outcome(row(TypeError("op: `y` must be a number")), changes)
    assert "AttributeError" in arguments.outcome(row(AttributeError("x")), changes)
    assert "IndexError" in arguments.outcome(row(IndexError("x")), changes)
    assert "characters" in arguments.outcome(row(ValueError("x " * 5000)), changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arguments, "SECONDS", 0.05)
        forever = lambda: (lambda x: [None for _ in iter(int, 1)], {"x": 0})  # noqa: E731
        assert "TooLong" in arguments.outcome(forever, changes)

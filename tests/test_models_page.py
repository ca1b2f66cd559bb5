"""What docs/models.md says of the networks, and the commands that it shows."""

import re
import shlex

import pytest

from cyconv import cli
from cyconv.cli import recipes
from tests.models_page import PAGE, TABLE, table

COMMANDS = re.findall(r"^cyconv (?:train|summary).*$", PAGE.read_text(), re.MULTILINE)


def test_the_table_is_that_of_the_networks():
    """`make docs` writes it anew."""
    assert [match[0] for match in TABLE.finditer(PAGE.read_text())] == [table()]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_possible(command):
    """Everything short of the training."""
    options = cli._parser().parse_args(shlex.split(command)[1:])
    if "data" in options:
        shape = recipes.input_shape(options.model, options.data, options.channels, options.input_size)
        recipe = recipes.Recipe(options.model, shape, options=recipes.parse_options(options.option))
        assert recipe.network().output_shape(shape) == (10,)

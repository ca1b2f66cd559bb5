"""What docs/models.md says of the networks, and the commands that it shows."""

import re
import shlex
from pathlib import Path

import pytest

from cyconv import cli
from cyconv.analysis import count_flops
from cyconv.cli import recipes
from cyconv.cli.catalogue import _rounded
from cyconv.models.registry import facts, networks

TEXT = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
ROWS = {
    row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", TEXT, re.MULTILINE)
}
COMMANDS = re.findall(r"^cyconv (?:train|summary).*$", TEXT, re.MULTILINE)


def test_every_network_has_a_row():
    assert list(ROWS) == list(networks())


@pytest.mark.parametrize("name", networks())
def test_rows_are_true(name):
    known = facts(name)
    extents = "x".join(map(str, known.input_shape))
    flops = _rounded(count_flops(known.network)).strip()
    assert ROWS[name] == (f"{known.parameters:,}", flops, extents, "; ".join(known.papers))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_possible(command):
    """Everything short of the training."""
    options = cli._parser().parse_args(shlex.split(command)[1:])
    if "data" in options:
        shape = recipes.input_shape(options.model, options.data, options.channels, options.input_size)
        recipe = recipes.Recipe(options.model, shape, options=recipes.parse_options(options.option))
        assert recipe.network().output_shape(shape) == (10,)

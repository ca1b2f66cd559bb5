import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyconv import nas
from cyconv.nas import MacroArchitecture, MacroSpace, MicroArchitecture, MicroSpace, architecture_from

SPACES = st.one_of(
    st.builds(MicroSpace, nodes=st.integers(1, 4)),
    st.builds(MacroSpace, layers=st.integers(1, 7)),
)
NODE = ((0, 1), ("identity", "max_pool_3x3"))


@given(SPACES, st.data())
@settings(max_examples=40, deadline=None)
def test_any_choices_are_an_architecture(space, data):
    """The constructors check what a space makes of choices."""
    choices = [data.draw(st.integers(0, decision.choices - 1)) for decision in space.decisions]
    architecture = space.architecture(choices)
    if isinstance(space, MicroSpace):
        for cell in (architecture.normal, architecture.reduction):
            assert len(cell) == space.nodes
            for number, node in enumerate(cell, 2):
                assert all(0 <= source < number for source in node.inputs)
                assert {*node.operations} <= {*nas.MICRO_OPERATIONS}
        assert MicroArchitecture(architecture.normal, architecture.reduction) == architecture
    else:
        assert len(architecture.layers) == space.layers
        for number, layer in enumerate(architecture.layers, 1):
            assert layer.operation in nas.MACRO_OPERATIONS
            assert all(0 <= source < number - 1 for source in layer.skips)
        assert MacroArchitecture(architecture.layers) == architecture
    assert architecture_from(architecture.as_dict()) == architecture


def test_choices_mean_what_they_say():
    assert MicroSpace(nodes=1).architecture([0, 1, 0, 4, 1, 1, 2, 3]) == MicroArchitecture(
        normal=[((0, 1), ("identity", "max_pool_3x3"))],
        reduction=[((1, 1), ("separable_conv_5x5", "avg_pool_3x3"))],
    )
    assert MacroSpace(layers=3).architecture([0, 1, 1, 5, 0, 1]) == MacroArchitecture(
        [("conv_3x3", ()), ("conv_5x5", (0,)), ("max_pool_3x3", (1,))]
    )


def test_every_choice_is_sampled():
    """Also the last of each decision, which a bound taken wrong would leave out."""
    space = MicroSpace(nodes=1)
    operations = {name for seed in range(60) for name in space.sample(seed).normal[0].operations}
    assert operations == {*nas.MICRO_OPERATIONS}
    skips = [MacroSpace(layers=3).sample(seed).layers[2].skips for seed in range(40)]
    assert {*skips} == {(), (0,), (1,), (0, 1)}
    assert space.sample(3) == space.sample(3)


def test_macro_skips_are_put_in_order():
    layers = [("conv_3x3", ())] * 3
    assert MacroArchitecture([*layers, ("conv_3x3", [2, 0])]) == MacroArchitecture([*layers, ("conv_3x3", (0, 2))])


@pytest.mark.parametrize(
    ("normal", "error", "message"),
    [
        ([], ValueError, r"MicroArchitecture: `normal` must not be empty"),
        ("cell", TypeError, r"MicroArchitecture: `normal` must be a sequence, got 'cell'"),
        ([3], TypeError, r"`normal\[0\]` must be a pair of inputs and a pair of operations, got 3"),
        ([((0, 1), ("identity",))], TypeError, r"`normal\[0\]` must be a pair of inputs and a pair of operations"),
        ([NODE, (*NODE, (1, 1))], ValueError, r"`normal\[1\]` must be a pair of inputs and a pair of operations"),
        ([((0, 2), NODE[1])], ValueError, r"`normal\[0\].inputs` must be at most 1, got 2"),
        ([NODE, ((-1, 2), NODE[1])], ValueError, r"`normal\[1\].inputs` must be at least 0, got -1"),
        ([((0, 1.5), NODE[1])], TypeError, r"`normal\[0\].inputs` must be an integer, got 1.5"),
        ([((0, 1), ("identity", "conv_7x7"))], ValueError, r"`normal\[0\].operations` must be one of 'identity', "),
    ],
)
def test_micro_architectures_refuse(normal, error, message):
    with pytest.raises(error, match=message):
        MicroArchitecture(normal, [NODE])


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], ValueError, "MacroArchitecture: `layers` must not be empty"),
        (["conv_3x3"], TypeError, r"`layers\[0\]` must be an operation and a sequence of layers, got 'conv_3x3'"),
        ([("identity", ())], ValueError, r"`layers\[0\].operation` must be one of 'conv_3x3', "),
        ([("conv_3x3", (0,))], ValueError, r"`layers\[0\].skips` must be empty, the first layer reads the stem"),
        ([("conv_3x3", ()), ("conv_3x3", (1,))], ValueError, r"`layers\[1\].skips` must be at most 0, got 1"),
        ([("conv_3x3", ()), ("conv_3x3", (0, 0))], ValueError, r"`layers\[1\].skips` must name each layer once"),
    ],
)
def test_macro_architectures_refuse(layers, error, message):
    with pytest.raises(error, match=message):
        MacroArchitecture(layers)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, TypeError, "architecture_from: `content` must be what `as_dict` returns, got None"),
        ({}, ValueError, "architecture_from: content: `space` must be one of 'micro', 'macro', got None"),
        ({"space": "macro"}, ValueError, "architecture_from: `layers` must be a list of operation and skips, got None"),
        ({"space": "micro", "normal": [1]}, ValueError, "`normal` must be a list of inputs and operations"),
        ({"space": "macro", "layers": [{"operation": []}]}, ValueError, "must be a list of operation and skips"),
        ({"space": "macro", "layers": [{"operation": [], "skips": []}]}, ValueError, r"operation` must be one of"),
    ],
)
def test_architecture_from_refuses(content, error, message):
    with pytest.raises(error, match=message):
        architecture_from(content)


def test_spaces_refuse():
    with pytest.raises(ValueError, match="MicroSpace: `nodes` must be at least 1, got 0"):
        MicroSpace(0)
    with pytest.raises(ValueError, match="MacroSpace: `layers` must be at most 100, got 101"):
        MacroSpace(101)

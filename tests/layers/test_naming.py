import pytest

from cyconv.layers.naming import fitted, unwrapped, without_wrappers


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["module.a", "module.b.c"], ["a", "b.c"]),
        (["model.module._orig_mod.a", "model.module._orig_mod.b"], ["a", "b"]),
        (["_orig_mod.model.module.a"], ["a"]),
        (["module.a", "b"], ["module.a", "b"]),
        (["module.model.a", "module.b"], ["model.a", "b"]),
        (["modules.a", "modules.b"], ["modules.a", "modules.b"]),
        (["model", "model.a"], ["model", "model.a"]),
        ([], []),
    ],
)
def test_what_all_names_begin_with_is_taken_off(names, expected):
    assert unwrapped(names) == expected


def test_a_name_alone():
    assert without_wrappers("module.model.module.module.model") == "model"
    assert without_wrappers("encoder.module.a") == "encoder.module.a"


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        (["model.a", "loss.w"], ["a"], {"model.a": "a", "loss.w": "loss.w"}),
        (["a"], ["module.model.a"], {"a": "module.model.a"}),
        (["model.module.a"], ["module.model.a"], {"model.module.a": "module.model.a"}),
        (["a", "model.a"], ["a"], {"a": "a", "model.a": "model.a"}),  # that of the same name comes first
        (["module.a", "model.a"], ["a"], {"module.a": "module.a", "model.a": "model.a"}),  # which of the two?
        (["module.a"], ["a", "model.a"], {"module.a": "module.a"}),
        (["model.a", "module.a"], ["model.a", "a"], {"model.a": "model.a", "module.a": "a"}),
    ],
)
def test_names_stand_for_those_that_differ_by_wrappers(names, wanted, expected):
    assert fitted(names, wanted) == expected

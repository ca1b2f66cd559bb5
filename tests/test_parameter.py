import numpy as np
import pytest

from cyconv.initializers import he_normal, zeros
from cyconv.parameter import Parameter, limited_to

WEIGHT = (4, 3, 2, 2)


def test_values_are_copied_into_channels_last_memory():
    values = np.arange(48, dtype=np.float32).reshape(WEIGHT)
    parameter = Parameter(values)
    np.testing.assert_array_equal(parameter.data, values)
    assert parameter.data.transpose(0, 2, 3, 1).flags.c_contiguous
    assert np.shares_memory(parameter.flat(parameter.data), parameter.data)
    assert not np.shares_memory(parameter.data, values)


def test_flat_puts_any_array_in_the_order_of_the_memory():
    parameter = Parameter(np.arange(48.0).reshape(WEIGHT))
    np.testing.assert_array_equal(parameter.flat(np.arange(48.0).reshape(WEIGHT)), parameter.flat(parameter.data))


def test_drawing_waits_for_the_first_use_and_does_not_depend_on_it():
    a, b = (Parameter.drawn(WEIGHT, he_normal) for _ in range(2))
    a.initialize(7)
    b.initialize(7)
    assert not a.is_drawn
    assert a.size == 48
    np.testing.assert_array_equal(a.data, b.data)
    assert a.is_drawn
    values = a.data.copy()
    a.initialize(8)
    assert not np.array_equal(a.data, values)


def test_given_values_are_not_drawn_anew():
    parameter = Parameter(np.ones(3))
    parameter.initialize(0)
    np.testing.assert_array_equal(parameter.data, 1)


def test_assignment_writes_in_place():
    parameter = Parameter(np.zeros(3, np.float32))
    data = parameter.data
    parameter.data = [1, 2, 3]
    assert parameter.data is data
    np.testing.assert_array_equal(data, [1, 2, 3])


def test_gradients_add_up_in_fresh_arrays():
    parameter, gradient = Parameter(np.zeros(3)), np.ones(3)
    parameter.accumulate(None)
    assert parameter.grad is None
    parameter.accumulate(gradient)
    parameter.accumulate(gradient)
    np.testing.assert_array_equal(parameter.grad, 2)
    np.testing.assert_array_equal(gradient, 1)


def test_bad_arrays_are_named():
    parameter = Parameter(np.zeros(3))
    with pytest.raises(ValueError, match=r"Parameter: `data` must have shape \(3,\), got \(2,\)"):
        parameter.data = np.zeros(2)
    with pytest.raises(ValueError, match=r"Parameter: `grad` must have shape \(3,\), got \(2,\)"):
        parameter.accumulate(np.zeros(2))
    with pytest.raises(TypeError, match="Parameter: `grad` must be float64 as the values are, got float32"):
        parameter.grad = np.zeros(3, np.float32)
    with pytest.raises(TypeError, match="Parameter: `data` must be float32 or float64, got int64"):
        Parameter(np.arange(3))
    assert repr(parameter) == "Parameter(shape=(3,), dtype=float64)"


@pytest.mark.parametrize("gradient", ["abc", 3, [1, 2]])
def test_a_gradient_has_the_shape_of_the_values(gradient):
    with pytest.raises((ValueError, TypeError), match="Parameter: `grad` must "):
        Parameter(np.ones(2)).accumulate(gradient)


@pytest.mark.parametrize("values", [["a", "b"], [None, 1], [1j, 2]])
def test_values_are_numbers(values):
    with pytest.raises(TypeError, match="Parameter: `data` must be numbers, got"):
        Parameter(np.ones(2)).data = values


@pytest.mark.parametrize("dtype", [None, "x", int, np.float16])
def test_a_dtype_is_one_of_two(dtype):
    with pytest.raises(TypeError, match="astype: `dtype` must be float32 or float64, got "):
        Parameter(np.ones(2)).astype(dtype)


def test_a_frozen_twin_shares_the_values_alone():
    parameter = Parameter(np.ones(3))
    parameter.accumulate(np.ones(3))
    twin = parameter.frozen()
    assert np.shares_memory(twin.read(), parameter.read())
    assert (twin.trainable, twin.grad) == (False, None)
    assert parameter.trainable
    assert parameter.grad is not None
    drawn = Parameter.drawn((3, 2), he_normal)
    assert np.array_equal(drawn.frozen().read(), drawn.read())


def test_a_limit_is_kept_before_memory_is_taken():
    message = "the network does not fit, it needs more weights than there are: 2 arrays, of 10 elements in all"
    for shapes in ([(10**9, 10**9)], [(5,), (6,)], [(1,), (1,), (1,)]):
        with pytest.raises(ValueError, match=message), limited_to(2, 10):
            [Parameter.drawn(shape, zeros) for shape in shapes]
    with limited_to(2, 10):
        Parameter.drawn((4,), zeros)
        Parameter(np.zeros(6))
    Parameter.drawn((11,), zeros)

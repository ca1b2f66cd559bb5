"""Sliding windows along any number of axes by plain loops, and the cases that all ranks share."""

import itertools

import numpy as np

SIZES = {1: (11,), 2: (7, 9), 3: (4, 7, 5)}
# Arguments of windows as a user gives them, by the number of axes; "each" is (kernel, stride, before, after, dilation)
# along the axes, worked out by hand.
CASES = {
    1: [
        ({"kernel_size": 3}, [(3, 1, 0, 0, 1)]),
        ({"kernel_size": (3,), "stride": (2,), "padding": (1,)}, [(3, 2, 1, 1, 1)]),
        ({"kernel_size": 3, "stride": 2, "padding": (0, 1)}, [(3, 2, 0, 1, 1)]),
        ({"kernel_size": 4, "stride": 3, "padding": "same"}, [(4, 3, 1, 1, 1)]),  # 4 outputs of 11: 3*3 + 4 - 11 = 2
        ({"kernel_size": 3, "padding": ((1, 0),), "dilation": (2,)}, [(3, 1, 1, 0, 2)]),
    ],
    2: [
        ({"kernel_size": (2, 3)}, [(2, 1, 0, 0, 1), (3, 1, 0, 0, 1)]),
        ({"kernel_size": 3, "stride": (2, 3), "padding": (1, 0)}, [(3, 2, 1, 1, 1), (3, 3, 0, 0, 1)]),
        ({"kernel_size": 3, "stride": 2, "padding": ((1, 0), (0, 1))}, [(3, 2, 1, 0, 1), (3, 2, 0, 1, 1)]),
        ({"kernel_size": 4, "stride": 2, "padding": "same"}, [(4, 2, 1, 2, 1), (4, 2, 1, 2, 1)]),
        ({"kernel_size": 2, "padding": "valid", "dilation": (1, 3)}, [(2, 1, 0, 0, 1), (2, 1, 0, 0, 3)]),
    ],
    3: [
        ({"kernel_size": 2}, [(2, 1, 0, 0, 1)] * 3),
        (
            {"kernel_size": (1, 3, 2), "stride": (1, 2, 2), "padding": (0, 1, 1)},
            [(1, 1, 0, 0, 1), (3, 2, 1, 1, 1), (2, 2, 1, 1, 1)],
        ),
        (
            {"kernel_size": 3, "stride": 2, "padding": ((1, 0), (0, 1), (1, 1))},
            [(3, 2, 1, 0, 1), (3, 2, 0, 1, 1), (3, 2, 1, 1, 1)],
        ),
        ({"kernel_size": 2, "stride": 2, "padding": "same"}, [(2, 2, 0, 0, 1), (2, 2, 0, 1, 1), (2, 2, 0, 1, 1)]),
        (
            {"kernel_size": 2, "padding": "valid", "dilation": (2, 1, 3)},
            [(2, 1, 0, 0, 2), (2, 1, 0, 0, 1), (2, 1, 0, 0, 3)],
        ),
    ],
}
EVERY = [(axes, arguments, each) for axes, cases in CASES.items() for arguments, each in cases]
IDS = [f"{axes}-D {arguments}" for axes, arguments, _ in EVERY]


def starts(size, kernel, stride, before, after, dilation, ceil_mode=False):
    """Return where each window begins: all that end inside the padding; with `ceil_mode` one that begins inside."""
    span = dilation * (kernel - 1) + 1
    found = [start for start in range(-before, size + after, stride) if start + span <= size + after]
    following = found[-1] + stride
    hangs = ceil_mode and found[-1] + span < size + after and following < size
    return [*found, following] if hangs else found


def taps(size, each, ceil_mode=False):
    """Yield for each output the input positions of all taps along every axis, those in the padding as None."""
    along = [
        [
            [start + k * window[4] if 0 <= start + k * window[4] < extent else None for k in range(window[0])]
            for start in starts(extent, *window, ceil_mode)
        ]
        for extent, window in zip(size, each, strict=True)
    ]
    for index in np.ndindex(*map(len, along)):
        yield index, [lines[i] for lines, i in zip(along, index, strict=True)]


def output_size(size, each, ceil_mode=False):
    return tuple(len(starts(extent, *window, ceil_mode)) for extent, window in zip(size, each, strict=True))


def convolve(x, weight, each, groups=1):
    """Return the convolution of x (N, IC, ...) by weight (OC, IC / groups, ...), term by term."""
    N, _, *size = x.shape
    OC, IC = weight.shape[:2]
    out = np.zeros((N, OC, *output_size(size, each)))
    for index, positions in taps(size, each):
        for tap in np.ndindex(*weight.shape[2:]):
            place = [line[k] for line, k in zip(positions, tap, strict=True)]
            if None in place:
                continue
            pixel = x[(slice(None), slice(None), *place)].reshape(N, groups, IC)
            factors = weight[(slice(None), slice(None), *tap)].reshape(groups, OC // groups, IC)
            out[(slice(None), slice(None), *index)] += np.einsum("ngi,goi->ngo", pixel, factors).reshape(N, OC)
    return out


def pool(x, each, reduce, ceil_mode=False):
    """Return ``reduce`` of the numbers in each window of x (N, C, ...), given as [N, C, numbers]."""
    size = x.shape[2:]
    out = np.zeros((*x.shape[:2], *output_size(size, each, ceil_mode)))
    for index, positions in taps(size, each, ceil_mode):
        inside = [[p for p in line if p is not None] for line in positions]
        numbers = np.stack([x[(slice(None), slice(None), *place)] for place in itertools.product(*inside)], axis=-1)
        out[(slice(None), slice(None), *index)] = reduce(numbers)
    return out

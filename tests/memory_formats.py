"""The same values in every kind of memory that an op must accept: of (N, C, H, W), pictures (H, W, C) and any array."""

import numpy as np


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def misaligned(x):
    raw = np.empty(x.nbytes + 1, np.uint8)[1:]
    view = raw.view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if x.ndim > 1 else x


def backwards(x):
    reverse = (slice(None, None, -1),) * x.ndim
    return x[reverse].copy()[reverse]


def inner(x):
    around = np.full([extent + 3 for extent in x.shape], np.nan, x.dtype)
    view = around[(slice(1, -2),) * x.ndim]
    view[...] = x
    return view


FORMATS = {
    "channels_last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "contiguous": np.ascontiguousarray,
    "negative_strides": lambda x: x[:, ::-1, ::-1, ::-1].copy()[:, ::-1, ::-1, ::-1],
    "slice": lambda x: np.repeat(np.repeat(x, 2, axis=1), 2, axis=3)[:, ::2, :, ::2],
    "read_only": read_only,
    "big_endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "misaligned": misaligned,
}
PICTURES = {
    "contiguous": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "planar": lambda x: np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0),
    "upside_down": lambda x: x[::-1].copy()[::-1],
    "negative_strides": lambda x: x[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "slice": lambda x: np.repeat(np.repeat(x, 2, axis=1), 3, axis=2)[:, ::2, ::3],
    "window": lambda x: np.pad(x, ((1, 2), (3, 4), (0, 0)))[1:-2, 3:-4],
    "field": lambda x: np.rec.fromarrays([x, np.ones(x.shape, np.uint8)], names="value,more").value,
    "read_only": read_only,
    "big_endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "misaligned": misaligned,
}
ARRAYS = {
    "channels_last": channels_last,
    "fortran": np.asfortranarray,
    "negative_strides": backwards,
    "slice": inner,
    "read_only": read_only,
    "big_endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "misaligned": misaligned,
}

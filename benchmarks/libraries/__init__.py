"""The same work in each library; each module has `start`, `describe` and `prepare`."""

# Names of workers: the module to import and its mode.
LIBRARIES = {
    "cyconv": ("with_cyconv", ""),
    "torch_nchw": ("with_torch", "nchw"),
    "torch_channels_last": ("with_torch", "channels_last"),
    "torch_compile": ("with_torch", "compile"),
    "numpy": ("with_numpy", ""),
    "scipy": ("with_scipy", ""),
}
PEERS = {
    "torch": ("torch_nchw", "torch_channels_last"),
    "torch_compile": ("torch_compile",),
    "numpy": ("numpy",),
    "scipy": ("scipy",),
}
LEARNING_RATE, MOMENTUM = 1e-4, 0.9  # so small a rate leaves the numbers as they are over hundreds of steps

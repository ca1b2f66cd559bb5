"""Ctrl-C during kernels that take seconds."""

import os
import select
import signal
import sys
import time

import pytest

from tests import processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")

# On one thread each of these takes some seconds.
LONG = {
    "conv2d": "F.conv2d(image, filters, padding=5)",
    "grad_x": "F.conv2d_backward(image, image, filters, padding=5, needs=(True, False, False))",
    "grad_weight": "F.conv2d_backward(image, image, filters, padding=5, needs=(False, True, False))",
    "linear": "F.linear(rows, rows)",
    "depthwise": "F.conv2d(image[:, :, :200, :200], large, padding=31, groups=128)",
    "depthwise grad_x": "F.conv2d_backward(image, image, large, padding=31, groups=128, needs=(True, False, False))",
    "depthwise grad_weight": "F.conv2d_backward(image, image, large, None, 1, 31, 1, 128, needs=(False, True, False))",
    "max_pool": "F.max_pool2d(image, 63, 1, 31)",
    "max_pool1d": "F.max_pool1d(line, 3001, 1, 1500)",
    "avg_pool": "F.avg_pool2d(image, 63, 1, 31)",
    "avg_pool grad": "F.avg_pool2d_backward(image, image, 63, 1, 31)",
    "avg_pool1d": "F.avg_pool1d(line, 3001, 1, 1500)",
    "avg_pool1d grad": "F.avg_pool1d_backward(line, line, 3001, 1, 1500)",
    "local_response_norm": "F.local_response_norm(deep, 10**9)",
    "local_response_norm grad": "F.local_response_norm_backward(deep, deep, 10**9)",
    "correlate": "cyconv.image.correlate(rows[:2000], np.random.default_rng(0).random((151, 151)))",
}

CODE = """
import signal
import numpy as np, cyconv
from cyconv import functional as F

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have those in the background ignore it
cyconv.set_num_threads(1)
x, weight = np.arange(300.0).reshape(1, 3, 10, 10), np.arange(108.0).reshape(4, 3, 3, 3)
before = F.conv2d(x, weight), *F.conv2d_backward(np.ones((1, 4, 8, 8)), x, weight)[:2]
rows = np.ones((12000, 2048), np.float32)
image, filters = np.ones((1, 128, 400, 400), np.float32), np.ones((128, 128, 11, 11), np.float32)
large, line = np.ones((128, 1, 63, 63), np.float32), np.ones((1, 32, 60_000), np.float32)
deep = np.ones((4, 4096, 40, 40), np.float32)
used = cyconv.memory.statistics()["used"]
print("ready", flush=True)
try:
    while True:
        LONG
except KeyboardInterrupt:
    print("interrupted", flush=True)
after = F.conv2d(x, weight), *F.conv2d_backward(np.ones((1, 4, 8, 8)), x, weight)[:2]
assert all((one == other).all() for one, other in zip(before, after))
del after
assert cyconv.memory.statistics()["used"] == used
print("right", flush=True)
"""


def read_line(process, timeout):
    """Return the next line of a process's output."""
    assert select.select([process.stdout], [], [], timeout)[0], "no answer"
    return process.stdout.readline().strip()


def worked(pid):
    """Return for how many seconds a process has computed, whatever else the machine does; page faults do not count."""
    if sys.platform != "linux":
        return time.perf_counter()
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("name", LONG)
def test_interrupt_is_heard_and_the_next_call_is_right(name):
    with processes.start(CODE.replace("LONG", LONG[name])) as process:
        try:
            assert read_line(process, 60) == "ready"
            time.sleep(0.4)
            os.kill(process.pid, signal.SIGINT)
            before = worked(process.pid)
            assert read_line(process, 60) == "interrupted"
            assert worked(process.pid) - before < 0.4
            assert read_line(process, 60) == "right"
            assert process.wait(60) == 0
        finally:
            process.kill()

"""After fork(), whose children inherit none of the parent's threads, kernels still run on several of them."""

import os

import pytest

from cyconv import _cpu
from tests import processes

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.skipif(not _cpu.FORK_SAFE, reason="this OpenMP runtime cannot be made ready to fork"),
]

START = """
import hashlib, multiprocessing, os, threading
import numpy as np, cyconv
from cyconv import functional as F

cyconv.set_num_threads(3)
rng = np.random.default_rng(0)
x, weight = rng.standard_normal((4, 16, 20, 20)), rng.standard_normal((24, 16, 3, 3))

def compute():
    output = F.conv2d(x, weight, padding=1)
    gradients = F.conv2d_backward(output, x, weight, padding=1)[:2]
    return hashlib.sha256(b"".join(array.tobytes() for array in (output, *gradients))).hexdigest()

def threads():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 3

context = multiprocessing.get_context("fork")

def in_child(work, *arguments):
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(work(*arguments)))
    child.start()
    assert receiver.poll(20), "the child hangs"
    result = receiver.recv()
    child.join(20)
    assert child.exitcode == 0
    return result

expected = compute()
"""


def check(code):
    # From Python 3.12 on, a process with several threads is warned when it forks: that is what is tried here.
    assert processes.output(START + code, timeout=100, warnings="ignore::DeprecationWarning").split() == ["right"]


def test_children_compute_the_same_bits_on_several_threads():
    check("""
for _ in range(20):
    assert in_child(compute) == expected
    assert compute() == expected  # and so does the parent afterwards
assert in_child(lambda: (compute(), threads())[1]) >= 3
print("right")
""")


def test_children_fork_too():
    check("""
def generations(count):
    return [compute()] + (in_child(generations, count - 1) if count else []) + [compute()]

assert set(generations(3)) == {expected}
print("right")
""")


def test_children_born_while_another_thread_computes():
    check("""
stop = threading.Event()
wrong = []

def keep_computing():
    while not stop.is_set():
        if compute() != expected:
            wrong.append(1)

workers = [threading.Thread(target=keep_computing) for _ in range(2)]
for worker in workers:
    worker.start()
try:
    for _ in range(20):
        assert in_child(compute) == expected
finally:
    stop.set()
    for worker in workers:
        worker.join()
assert not wrong
print("right")
""")


def test_a_pool_of_processes_after_a_threaded_call():
    check("""
with context.Pool(2) as pool:
    assert set(pool.starmap(compute, [()] * 8)) == {expected}
print("right")
""")

import os
import re
import sys

import pytest

import cyconv
from cyconv import _cpu, threads
from tests import processes

pytestmark = pytest.mark.skipif(not _cpu.OPENMP_VERSION, reason="serial build")


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    """Put back the number of threads, whatever a test sets."""
    monkeypatch.setattr(threads, "_count", threads._count)
    monkeypatch.setattr(threads, "_source", threads._source)


# Set by the program


@pytest.mark.parametrize("count", [1, 2, 1024])
def test_set_and_get(count):
    cyconv.set_num_threads(count)
    assert cyconv.get_num_threads() == count
    assert threads.source() == "set_num_threads"


@pytest.mark.parametrize("count", [0, -1, 1025, 2**70])
def test_count_out_of_range(count):
    before = cyconv.get_num_threads(), threads.source()
    message = f"^set_num_threads: `count` must be 1 to 1024, got {count}$"
    with pytest.raises(ValueError, match=message):
        cyconv.set_num_threads(count)
    with pytest.raises(ValueError, match=message), cyconv.num_threads(count):
        pass
    assert (cyconv.get_num_threads(), threads.source()) == before


@pytest.mark.parametrize("count", [1.0, "2", None, (2,), True, False])
def test_count_of_another_kind(count):
    message = "^set_num_threads: `count` must be an integer, got "
    with pytest.raises(TypeError, match=message):
        cyconv.set_num_threads(count)
    with pytest.raises(TypeError, match=message), cyconv.num_threads(count):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_more_threads_than_the_memory_limit_allows():
    """Where a thread cannot be started the OpenMP runtime would end the process."""
    code = """
    import resource
    import numpy as np, cyconv
    from cyconv import functional as F

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = 2**23 if stack == resource.RLIM_INFINITY else stack
    resource.setrlimit(resource.RLIMIT_AS, (used + 20 * stack, -1))
    before = cyconv.get_num_threads()
    try:
        cyconv.set_num_threads(1024)
    except ValueError as error:
        print(error)
    assert cyconv.get_num_threads() == before
    cyconv.set_num_threads(4)
    F.relu(np.ones((64, 64, 64), np.float32))
    """
    said = processes.output(code, OMP_NUM_THREADS="2")
    assert re.fullmatch(r"set_num_threads: `count` must be at most \d+, got 1024: the limits on memory .*\n", said)


def test_context_restores():
    cyconv.set_num_threads(5)
    with cyconv.num_threads(2):
        assert cyconv.get_num_threads() == 2
        with cyconv.num_threads(3):
            assert cyconv.get_num_threads() == 3
        assert cyconv.get_num_threads() == 2
    assert cyconv.get_num_threads() == 5


def test_context_restores_after_an_exception():
    before = cyconv.get_num_threads(), threads.source()
    with pytest.raises(ZeroDivisionError), cyconv.num_threads(7):
        _ = 1 / 0
    assert (cyconv.get_num_threads(), threads.source()) == before


def test_context_restores_what_was_set_before_it():
    with cyconv.num_threads(2):
        cyconv.set_num_threads(9)
    assert cyconv.get_num_threads() != 9


def test_small_work_runs_serially():
    cyconv.set_num_threads(8)
    assert threads.threads_for(0) == 1
    assert threads.threads_for(threads.GRAIN - 1) == 1
    assert threads.threads_for(2 * threads.GRAIN) == 2
    assert threads.threads_for(2**62) == 8


# Chosen at the start


@pytest.mark.parametrize(("value", "count"), [("3", 3), (" 2 ", 2), ("4,2", 4), ("5000", 1024)])
def test_environment_sets_the_default(monkeypatch, value, count):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads._default() == (count, "OMP_NUM_THREADS")


@pytest.mark.parametrize("value", ["", "0", "-2", "two", "2.5", ",", "\u00b2"])
def test_senseless_environment_is_ignored(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    count, source = threads._default()
    assert 1 <= count <= threads.MAX_THREADS
    assert source != "OMP_NUM_THREADS"


def fake_files(monkeypatch, contents):
    """Let the module read these files, and no others."""

    def read(path):
        if path not in contents:
            raise FileNotFoundError(path)
        return contents[path]

    monkeypatch.setattr(threads, "_read", read)


OLD = "/sys/fs/cgroup/cpu/cpu.cfs_"


@pytest.mark.parametrize(
    ("contents", "quota"),
    [
        ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"/sys/fs/cgroup/cpu.max": "nonsense"}, None),
        ({f"{OLD}quota_us": "-1\n", f"{OLD}period_us": "100000\n"}, None),
        ({f"{OLD}quota_us": "300000\n", f"{OLD}period_us": "100000\n"}, 3),
        ({f"{OLD}quota_us": "300000\n", f"{OLD}period_us": "0\n"}, None),
        ({f"{OLD}quota_us": "300000\n"}, None),
        ({}, None),
    ],
)
def test_quota_of_the_control_group(monkeypatch, contents, quota):
    fake_files(monkeypatch, contents)
    assert threads._cgroup_quota() == quota


def test_default_is_the_smaller_of_quota_and_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    for quota, expected in [
        (2, (2, "control group's CPU quota")),
        (9, (6, "usable cores")),
        (None, (6, "usable cores")),
    ]:
        monkeypatch.setattr(threads, "_cgroup_quota", lambda quota=quota: quota)
        assert threads._default() == expected


SHOW = "import cyconv; from cyconv import threads; print(cyconv.get_num_threads(), threads.source())"


def test_environment_counts_at_import():
    assert processes.output(SHOW, OMP_NUM_THREADS="3").split(maxsplit=1) == ["3", "OMP_NUM_THREADS\n"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to cores")
def test_affinity_counts_at_import():
    bind = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    assert processes.output(bind + SHOW).startswith("1 ")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="this system does not show a process's threads")
def test_kernels_use_that_many_threads():
    code = """
    import os, numpy as np, cyconv
    from cyconv import functional as F

    def count():
        return len(os.listdir("/proc/self/task"))

    x, weight = np.ones((8, 16, 32, 32), np.float32), np.ones((16, 16, 3, 3), np.float32)
    before = count()
    cyconv.set_num_threads(1)
    F.conv2d(x, weight)
    alone = count()
    cyconv.set_num_threads(3)
    F.conv2d(x[:1, :, :3, :3], weight)
    small = count()
    F.conv2d(x, weight)
    print(alone - before, small - before, count() - before)
    """
    assert processes.output(code).split() == ["0", "0", "2"]

import os
import re
import sys
import textwrap

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


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_environment_asks_for_more_threads_than_the_memory_limit_allows():
    code = """
    import resource
    import numpy as np, cyconv
    from cyconv import functional as F, threads

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = 2**23 if stack == resource.RLIM_INFINITY else stack
    resource.setrlimit(resource.RLIMIT_AS, (used + 20 * stack, -1))
    assert cyconv.get_num_threads() == 1024
    F.relu(np.ones((64, 128, 256), np.float32))
    assert 1 < cyconv.get_num_threads() < 20
    print(threads.source())
    """
    said = processes.output(code, OMP_NUM_THREADS="1024", OPENBLAS_NUM_THREADS="1")
    assert said == "OMP_NUM_THREADS, lowered to what the limits on memory or processes allow\n"


# On which cores they run

can_spread = pytest.mark.skipif(not _cpu.CAN_SPREAD, reason="here the system alone chooses the cores")

COMPUTE = """
import hashlib, os, threading, time
import numpy as np, cyconv
from cyconv import _cpu, functional as F, threads

cyconv.set_num_threads(2)
rng = np.random.default_rng(0)
x, weight = rng.standard_normal((4, 16, 20, 20)), rng.standard_normal((24, 16, 3, 3))

def compute():
    output = F.conv2d(x, weight, padding=1)
    gradients = F.conv2d_backward(output, x, weight, padding=1)[:2]
    return hashlib.sha256(b"".join(array.tobytes() for array in (output, *gradients))).hexdigest()

def affinities():
    return {frozenset(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")}

def pause_and_compute(times=20):
    results = set()
    for _ in range(times):
        time.sleep(0.012)  # so long that the threads are spread anew
        results |= {compute(), compute()}
    return results
"""
needs_two_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores"
)


@can_spread
def test_spread_threads_compute_the_same_bits():
    code = COMPUTE + "print(threads.placement(), *pause_and_compute(), sep=';')"
    spread, *results = processes.output(code).split(";")
    left_alone, *others = processes.output(code, OMP_PROC_BIND="false").split(";")
    assert (spread, left_alone) == ("spread over the cores", "the system's (OMP_PROC_BIND is set)")
    assert results == others
    assert len(results) == 1


@can_spread
def test_spread_threads_may_soon_run_everywhere_again():
    code = """
    before = affinities()
    pause_and_compute()
    assert os.sched_getaffinity(0) in before
    end = time.monotonic() + 20
    while affinities() != before and time.monotonic() < end:
        compute()
    print(affinities() == before)
    """
    assert processes.output(COMPUTE + textwrap.dedent(code)) == "True\n"


@can_spread
@needs_two_cores
def test_threads_stay_where_the_process_was_bound_meanwhile():
    code = """
    expected, everywhere = pause_and_compute(), os.sched_getaffinity(0)
    for cores in [{min(everywhere)}, {max(everywhere)}, {min(everywhere), max(everywhere)}]:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores)
        assert pause_and_compute(10) == expected
        assert os.sched_getaffinity(0) == cores
        assert all(some and some <= cores for some in affinities())
    print("right")
    """
    assert processes.output(COMPUTE + textwrap.dedent(code)) == "right\n"


@can_spread
@needs_two_cores
def test_spread_separates_threads_that_share_a_core():
    """Other programs may keep both on one core for a time, so it is tried until it succeeds."""
    code = """
    def core(thread):
        with open(f"/proc/self/task/{thread}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[36])

    before = set(os.listdir("/proc/self/task"))
    compute()
    worker, = set(os.listdir("/proc/self/task")) - before
    everywhere = os.sched_getaffinity(0)
    for _ in range(200):
        time.sleep(0.05)
        own = core(os.getpid())
        for cores in [{own}, everywhere]:
            os.sched_setaffinity(int(worker), cores)
        _cpu.spread(2)
        if core(worker) != core(os.getpid()):
            print("right")
            break
    """
    assert processes.output(COMPUTE + textwrap.dedent(code)) == "right\n"


@can_spread
@needs_two_cores
def test_threads_without_a_core_are_left_out_for_a_while():
    """Every core is busy with another program, and then none is: the team shrinks, and grows again."""
    code = """
    import subprocess, sys

    def wait_for(count):
        end = time.monotonic() + 60
        while (found := threads.threads_for(2**40)) != count and time.monotonic() < end:
            compute()
        return found

    expected = compute()
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in os.sched_getaffinity(0)]
    try:
        crowded = wait_for(1), compute() == expected
    finally:
        for process in busy:
            process.kill()
            process.wait()
    print(*crowded, wait_for(2))
    """
    assert processes.output(COMPUTE + textwrap.dedent(code)) == "1 True 2\n"


@can_spread
def test_callers_spread_their_teams_and_fork_at_once():
    code = """
    expected = compute()
    wrong = []

    def work():
        if pause_and_compute(10) != {expected}:
            wrong.append(1)

    callers = [threading.Thread(target=work) for _ in range(8)]
    for caller in callers:
        caller.start()
    for _ in range(5):
        child = os.fork()
        if not child:
            os._exit(pause_and_compute(2) != {expected})
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        pause_and_compute(2)
    for caller in callers:
        caller.join()
    assert not wrong
    print("right")
    """
    code = COMPUTE + textwrap.dedent(code)
    assert processes.output(code, timeout=100, warnings="ignore::DeprecationWarning") == "right\n"

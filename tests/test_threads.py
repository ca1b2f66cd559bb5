import os
import re
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import cyconv
from cyconv import _cpu, _runtime, threads
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
    message = f"num_threads: `count` must be 1 to 1024, got {count}$"
    with pytest.raises(ValueError, match=f"^set_{message}"):
        cyconv.set_num_threads(count)
    with pytest.raises(ValueError, match=f"^{message}"), cyconv.num_threads(count):
        pass
    assert (cyconv.get_num_threads(), threads.source()) == before


@pytest.mark.parametrize("count", [1.0, "2", None, (2,), True, False])
def test_count_of_another_kind(count):
    message = "num_threads: `count` must be an integer, got "
    with pytest.raises(TypeError, match=f"^set_{message}"):
        cyconv.set_num_threads(count)
    with pytest.raises(TypeError, match=f"^{message}"), cyconv.num_threads(count):
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


def test_blocks_of_many_threads_leave_the_process_its_number():
    """Two that overlap used to leave the first one's number behind."""
    cyconv.set_num_threads(5)
    wrong = []

    def nest(rng, depth):
        count = int(rng.integers(1, 9))
        with cyconv.num_threads(count):
            if depth and rng.random() < 0.7:
                time.sleep(0)
                nest(rng, depth - 1)
            if cyconv.get_num_threads() != count:
                wrong.append(count)

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(1000 // 16 + 1):
            nest(rng, 4)
            if cyconv.get_num_threads() != 5:
                wrong.append("outside")

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert cyconv.get_num_threads() == 5


def test_overlapping_blocks_of_two_threads():
    cyconv.set_num_threads(5)
    inside, leave = threading.Event(), threading.Event()

    def work():
        with cyconv.num_threads(2):
            inside.set()
            leave.wait(60)

    with cyconv.num_threads(1):
        worker = threading.Thread(target=work)
        worker.start()
        assert inside.wait(60)
    assert cyconv.get_num_threads() == 5
    leave.set()
    worker.join()
    assert cyconv.get_num_threads() == 5


def test_batches_are_prepared_with_the_number_of_the_block():
    cyconv.set_num_threads(5)
    found = []

    def augment(x, y, rng):
        found.append(cyconv.get_num_threads())
        return x, y

    batches = cyconv.data.Batches(np.zeros((6, 1, 4, 4), np.float32), np.arange(6), 2, augment=augment, rng=0)
    with cyconv.num_threads(2):
        assert len(list(batches)) == 3
    assert found == [2, 2, 2]


def test_limits_of_threadpoolctl_are_obeyed():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    cyconv.set_num_threads(6)
    with threadpoolctl.threadpool_limits(3):
        assert (cyconv.get_num_threads(), threads.threads_for(2**40)) == (3, 3)
        with cyconv.num_threads(4):
            assert cyconv.get_num_threads() == 3
    assert (cyconv.get_num_threads(), threads.threads_for(2**40)) == (6, 6)


def test_threadpoolctl_lists_the_threads():
    """As those of its OpenMP runtime, until another number is set."""
    pytest.importorskip("threadpoolctl")
    code = """
    import cyconv, threadpoolctl
    print(*(row["num_threads"] for row in threadpoolctl.threadpool_info() if row["user_api"] == "openmp"))
    """
    assert processes.output(code, OMP_NUM_THREADS="3").split() == ["3"]


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
    monkeypatch.setattr(_runtime, "CORES", 6)
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
    assert said == "OMP_NUM_THREADS, lowered to what the OpenMP runtime or the limits on memory or processes allow\n"


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


BOUND = """
import cyconv
from cyconv import threads
print(cyconv.get_num_threads(), threads.source(), sep=";")
"""


@needs_two_cores
def test_threads_bound_by_the_runtime_leave_the_process_its_cores():
    cores = len(os.sched_getaffinity(0))
    quota = threads._cgroup_quota()
    count = processes.output(BOUND, OMP_PROC_BIND="true").split(";")[0]
    assert int(count) == min(cores, quota or cores)


@needs_two_cores
def test_threads_bound_by_a_runtime_loaded_before():
    """PyTorch, say, brings one of its own."""
    code = "import ctypes, glob, os; ctypes.CDLL('libgomp.so.1'); assert len(os.sched_getaffinity(0)) == 1\n" + BOUND
    if _cpu.RUNTIME != "GCC":
        pytest.skip("loads GCC's runtime first")
    quota = threads._cgroup_quota()
    cores = len(os.sched_getaffinity(0))
    assert int(processes.output(code, OMP_PROC_BIND="true").split(";")[0]) == min(cores, quota or cores)


@needs_two_cores
def test_cores_taken_by_taskset_stay_taken_though_threads_are_bound():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + BOUND
    assert processes.output(code, OMP_PROC_BIND="true").startswith("1;")


# Callers at once


@can_spread
def test_callers_share_the_cores():
    """Each of several gets its part and, once alone, all; a block's number is its own."""
    code = """
    import threading, time
    import cyconv
    from cyconv import threads

    threads._spread, threads._shared_cores = False, 8
    cyconv.set_num_threads(8)
    work = 2**40
    alone, counts, blocks = threads.threads_for(work), {}, []
    end = time.monotonic() + 40

    def call(name):
        while sorted(counts.values()) != [2, 3, 3] and time.monotonic() < end:
            counts[name] = threads.threads_for(work)
            time.sleep(0.001)
        with cyconv.num_threads(5):
            blocks.append(threads.threads_for(work))

    callers = [threading.Thread(target=call, args=(i,)) for i in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    while (found := threads.threads_for(work)) != 8 and time.monotonic() < end:
        time.sleep(0.01)
    print(alone, sorted(counts.values()), blocks, found)
    """
    assert processes.output(code, OMP_WAIT_POLICY="passive") == "8 [2, 3, 3] [5, 5, 5] 8\n"


@can_spread
def test_callers_compute_the_same_bits():
    code = """
    import collections
    expected = compute()
    found = collections.Counter()

    def work():
        found.update(compute() for _ in range(20))

    callers = [threading.Thread(target=work) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    print(dict(found) == {expected: 160})
    """
    assert processes.output(COMPUTE + textwrap.dedent(code)) == "True\n"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_callers_whose_teams_do_not_fit_get_fewer_threads():
    """Sixteen, where the memory limit allows some of their teams."""
    code = """
    import resource, threading
    import numpy as np, cyconv
    from cyconv import functional as F

    x = np.ones((4, 32, 64, 64), np.float32)
    expected = F.relu(x)
    ready, go, right = threading.Barrier(17), threading.Event(), []

    def call():
        ready.wait()
        go.wait()
        with cyconv.num_threads(1):
            pass
        right.append((F.relu(x) == expected).all() and cyconv.get_num_threads() >= 1)

    callers = [threading.Thread(target=call) for _ in range(16)]
    for caller in callers:
        caller.start()
    ready.wait()
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = 2**23 if stack == resource.RLIM_INFINITY else stack
    resource.setrlimit(resource.RLIMIT_AS, (used + 40 * stack, -1))
    from cyconv import threads
    threads._shared_cores = 0  # all want their team
    go.set()
    for caller in callers:
        caller.join()
    print(len(right), all(right))
    """
    said = processes.output(code, OMP_NUM_THREADS="8", OPENBLAS_NUM_THREADS="1", MALLOC_ARENA_MAX="1")
    assert said == "16 True\n"


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
    """Every core is busy with other programs, and then none is: the team shrinks, and grows again."""
    code = """
    import subprocess, sys

    def wait_for(count):
        end = time.monotonic() + 60
        while (found := threads.threads_for(2**40)) != count and time.monotonic() < end:
            compute()
        return found

    expected = compute()
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in range(8 * len(os.sched_getaffinity(0)))]
    try:
        crowded = wait_for(1), compute() == expected
    finally:
        for process in busy:
            process.kill()
            process.wait()
    print(*crowded, wait_for(2))
    """
    assert processes.output(COMPUTE + textwrap.dedent(code), timeout=150) == "1 True 2\n"


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

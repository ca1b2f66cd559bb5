"""What this CPU, operating system and build can run: instruction sets, OpenMP, and a fork-safe OpenMP runtime.

And what that runtime's threads had better do: how many are to work where several callers share the cores, and where.
"""

cdef extern from * nogil:
    """
    #ifdef _OPENMP
      #include <omp.h>
      #define cyconv_openmp_version _OPENMP
    #else
      #define cyconv_openmp_version 0
    #endif

    /* __builtin_cpu_supports asks the operating system too: the wide registers must be saved on a context switch. */
    static int cyconv_supports(int level) {
    #if defined(__x86_64__) || defined(_M_X64)
      __builtin_cpu_init();
      if (level == 2)
        return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
      if (level == 3)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
          && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
          && __builtin_cpu_supports("avx512cd");
    #else
      return level == 2;
    #endif
    }

    /* After a pause, or when the caller has come to another core, the system often has both threads of a team of two
       on one core, for tens of milliseconds (Linux takes a virtual machine's sleeping core for one that is not to be
       had). So the team meets then: each worker keeps off the caller's core until the next meeting, some milliseconds
       later, and the caller waits awake, because it would be woken up on the core of the one that wakes it.

       It also meets from time to time to see whether all still have a core. Where other programs, or the threads with
       which another library waits, take one, those who come late only make the others wait, at every step: the caller
       goes on with those who came, and tries again later, less and less often. Results do not depend on that. For the
       first time it may be a core that was slow to wake up: the next call meets again before anyone is left out. */
    #if defined(_OPENMP) && defined(__linux__)
      #include <sched.h>
      #include <sys/resource.h>
      #include <time.h>
      /* In nanoseconds. Pauses from 8 ms on were seen to do harm; idle cores of a virtual machine took up to 0.24 ms to
         wake up. */
      #define CYCONV_PAUSE 5000000
      #define CYCONV_PATIENCE 500000
      #define CYCONV_CHECK 100000000
      #define CYCONV_RETREAT 200000000 /* the first; four times as long with each that follows, half when all come */
      #define CYCONV_LONGEST_RETREAT 3200000000
      #define CYCONV_PUSHED 15000000 /* between two losses of the core to somebody else: turns are of some 4 ms */

      static __thread struct {
        int core, paused, keeping; /* where it was last, whether it came back late, and workers keep off it */
        int late, present;         /* whether some were late once; how many came where not all did, or 0 */
        long long seen, meeting, crowded, retreat; /* when it was here, and held a meeting; until when to hold none */
      } cyconv_caller;
      static __thread struct { int keeps_off; cpu_set_t cores; } cyconv_worker;
      static __thread struct { long switches; long long since; } cyconv_turns; /* a thread's, at the last meeting */

      static long long cyconv_time(clockid_t clock) {
        struct timespec now;
        clock_gettime(clock, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
      }
      static int cyconv_settled(void) {
        long long now = cyconv_time(CLOCK_MONOTONIC_COARSE);
        cyconv_caller.paused = now - cyconv_caller.seen > CYCONV_PAUSE;
        cyconv_caller.seen = now;
        if (cyconv_caller.keeping && now - cyconv_caller.meeting > CYCONV_PAUSE) return 0;
        if (now < cyconv_caller.crowded) return 1;
        return !cyconv_caller.paused && !cyconv_caller.late && !cyconv_caller.present
               && now - cyconv_caller.meeting < CYCONV_CHECK && sched_getcpu() == cyconv_caller.core;
      }
      /* A worker that kept off a core goes back to what the caller may use, unless somebody else changed its cores. */
      static void cyconv_keep_off(int core, const cpu_set_t *callers) {
        cpu_set_t now, wanted;
        if (core < 0 && !cyconv_worker.keeps_off) return;
        if (sched_getaffinity(0, sizeof now, &now)) return;
        wanted = cyconv_worker.keeps_off && CPU_EQUAL(&now, &cyconv_worker.cores) ? *callers : now;
        cyconv_worker.keeps_off = core >= 0 && CPU_ISSET(core, &wanted) && CPU_COUNT(&wanted) > 1;
        if (cyconv_worker.keeps_off) CPU_CLR(core, &wanted);
        if (!CPU_EQUAL(&wanted, &now) && sched_setaffinity(0, sizeof wanted, &wanted)) cyconv_worker.keeps_off = 0;
        cyconv_worker.cores = wanted;
      }
      /* Whether the calling thread has shared its core with others since it was last asked. */
      static int cyconv_shares(void) {
        struct rusage usage;
        long long now = cyconv_time(CLOCK_MONOTONIC_COARSE), length = now - cyconv_turns.since;
        long turns;
        if (getrusage(RUSAGE_THREAD, &usage)) return 0;
        turns = usage.ru_nivcsw - cyconv_turns.switches;
        cyconv_turns.switches = usage.ru_nivcsw;
        cyconv_turns.since = now;
        return turns > 3 && turns * CYCONV_PUSHED > length;
      }
      static void cyconv_meet(int threads) {
        long long now = cyconv_time(CLOCK_MONOTONIC_COARSE);
        int core = sched_getcpu(), here = 1, avoid = -1, late = 0, present = 0, looks, shares;
        cpu_set_t cores;
        if (core < 0 || sched_getaffinity(0, sizeof cores, &cores)) {
          cyconv_caller.crowded = now + CYCONV_LONGEST_RETREAT;
          cyconv_caller.keeping = cyconv_caller.late = cyconv_caller.present = 0;
          return;
        }
        looks = now >= cyconv_caller.crowded && threads <= CPU_COUNT(&cores);
        shares = cyconv_shares();
        /* A meeting that is held only because the last one is some time ago lets the workers go. */
        if (looks && (cyconv_caller.paused || cyconv_caller.present || core != cyconv_caller.core)) avoid = core;
        if (looks || cyconv_caller.keeping) {
          #pragma omp parallel num_threads(threads)
          if (omp_get_thread_num()) {
            cyconv_keep_off(__atomic_load_n(&avoid, __ATOMIC_RELAXED), &cores);
            if (!cyconv_shares()) __atomic_add_fetch(&here, 1, __ATOMIC_RELEASE);
          } else if (looks) {
            long long end = cyconv_time(CLOCK_MONOTONIC) + CYCONV_PATIENCE;
            int all = omp_get_num_threads(), found;
            while ((found = __atomic_load_n(&here, __ATOMIC_ACQUIRE)) < all && cyconv_time(CLOCK_MONOTONIC) < end)
              sched_yield();
            found -= shares && found > 1;
            late = found < all;
            if (late && (cyconv_caller.late || cyconv_caller.retreat >= CYCONV_RETREAT)) {
              present = found;
              __atomic_store_n(&avoid, -1, __ATOMIC_RELAXED);
            }
          }
        }
        if (present) {
          cyconv_caller.retreat *= 4;
          if (cyconv_caller.retreat < CYCONV_RETREAT) cyconv_caller.retreat = CYCONV_RETREAT;
          if (cyconv_caller.retreat > CYCONV_LONGEST_RETREAT) cyconv_caller.retreat = CYCONV_LONGEST_RETREAT;
          cyconv_caller.crowded = now + cyconv_caller.retreat;
        } else if (looks && !late)
          cyconv_caller.retreat /= 2;
        else if (threads > CPU_COUNT(&cores))
          cyconv_caller.crowded = now + CYCONV_LONGEST_RETREAT;
        if (looks || threads > CPU_COUNT(&cores)) cyconv_caller.present = present;
        cyconv_caller.keeping = avoid >= 0 || present; /* who came late may have been told to, just before */
        cyconv_caller.late = late && !present;
        cyconv_caller.core = core;
        cyconv_caller.seen = cyconv_caller.meeting = cyconv_time(CLOCK_MONOTONIC_COARSE);
      }
      /* How many of so many threads have a core, as far as is known. */
      static int cyconv_welcome(int threads) {
        return cyconv_caller.present && cyconv_caller.present < threads ? cyconv_caller.present : threads;
      }
      static int cyconv_can_meet(void) { return 1; }
    #else
      static int cyconv_settled(void) { return 1; }
      static void cyconv_meet(int threads) { (void)threads; }
      static int cyconv_welcome(int threads) { return threads; }
      static int cyconv_can_meet(void) { return 0; }
    #endif

    /* Which OpenMP runtime the kernels' calls reach is known when they are loaded: LD_PRELOAD may have put LLVM's
       before the compiler's own. */
    #if defined(_OPENMP) && !defined(_WIN32)
      #include <dlfcn.h>
      static int cyconv_is_llvm(void) {
        Dl_info runtime;
        void *library;
        int found;
        if (!dladdr((void *)omp_get_max_threads, &runtime)) return 0;
        library = dlopen(runtime.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
        if (!library) return 0;
        found = dlsym(library, "__kmpc_fork_call") != 0;
        dlclose(library);
        return found;
      }
    #else
      static int cyconv_is_llvm(void) { return 0; }
    #endif

    /* Where the runtime cannot start a thread it ends the process, so each caller's team is tried first: as many
       threads wait for `gate`, then end, and the runtime starts its own before another caller tries. They get the stack
       that the runtime's get, unless OMP_STACKSIZE is set. */
    #if defined(_OPENMP) && !defined(_WIN32)
      #include <pthread.h>
      #include <stdlib.h>
      #include <time.h>
      #define CYCONV_RETRY 10 /* seconds until a caller that got fewer threads than it may use tries again */
      static __thread struct { int started, reduced; time_t retry; } cyconv_team;
      static pthread_mutex_t cyconv_turn = PTHREAD_MUTEX_INITIALIZER;
      static int cyconv_llvm;

      static void *cyconv_pass(void *gate) {
        pthread_mutex_lock((pthread_mutex_t *)gate);
        pthread_mutex_unlock((pthread_mutex_t *)gate);
        return 0;
      }
      static int cyconv_startable(int wanted) {
        pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
        pthread_t *threads = (pthread_t *)malloc((wanted + 1) * sizeof(pthread_t));
        int started = 0, i;
        if (!threads) return 0;
        pthread_mutex_lock(&gate);
        while (started < wanted && !pthread_create(&threads[started], 0, cyconv_pass, &gate)) started++;
        pthread_mutex_unlock(&gate);
        for (i = 0; i < started; i++) pthread_join(threads[i], 0);
        free(threads);
        return started;
      }
      static int cyconv_started(void) { return cyconv_team.started; }
      static int cyconv_reduced(void) { return cyconv_team.reduced; }
      /* Start the calling thread's team, of as many of the threads wanted as can be had; return how many. */
      static int cyconv_start(int wanted) {
        struct timespec now;
        int possible, present = 0;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (cyconv_team.reduced && now.tv_sec < cyconv_team.retry)
          return wanted < cyconv_team.reduced ? wanted : cyconv_team.reduced;
        pthread_mutex_lock(&cyconv_turn);
        possible = 1 + cyconv_startable(wanted - 1);
        cyconv_team.reduced = 0;
        if (possible < wanted) { /* half of them, for the other half's memory is needed too */
          possible = cyconv_team.reduced = (possible + 1) / 2;
          cyconv_team.retry = now.tv_sec + CYCONV_RETRY;
        }
        if (possible > 1) {
          #pragma omp parallel num_threads(possible)
          __atomic_add_fetch(&present, 1, __ATOMIC_RELAXED);
          cyconv_team.started = possible;
        }
        pthread_mutex_unlock(&cyconv_turn);
        return possible;
      }
      /* GCC's runtime ends the threads that a smaller team has no use for. */
      static void cyconv_shrink(int threads) {
        if (!cyconv_llvm && threads > 1 && threads < cyconv_team.started) cyconv_team.started = threads;
      }
      static int cyconv_runtime_limit(void) { return omp_get_max_threads(); }
    #else
      static int cyconv_startable(int wanted) { return wanted; }
      static int cyconv_started(void) { return 1 << 30; }
      static int cyconv_reduced(void) { return 0; }
      static int cyconv_start(int wanted) { return wanted; }
      static void cyconv_shrink(int threads) { (void)threads; }
      static int cyconv_runtime_limit(void) { return 0; }
    #endif

    /* Callers share the cores: each gets those that remain when they are dealt to all that are active. That is a thread
       which asked for a team a moment ago (longer than that, lest teams change with every gap between two kernels), or
       which asked before and uses a core still, so that its kernel lasts. */
    #if defined(_OPENMP) && defined(__linux__)
      #include <unistd.h>
      #include <sys/syscall.h>
      #define CYCONV_CALLERS 256
      #define CYCONV_ACTIVE 20000000 /* in nanoseconds: some time slices */
      #define CYCONV_LASTING 2000000000 /* the longest kernel that is recognized */
      static struct { int thread; long long called, busy, looked, cpu; } cyconv_callers[CYCONV_CALLERS];
      static int cyconv_slots; /* that were ever in use */
      static __thread struct { int thread, slot; } cyconv_self;

      #define CYCONV_LOAD(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
      #define CYCONV_STORE(x, value) __atomic_store_n(&(x), value, __ATOMIC_RELAXED)

      /* A thread's time on the CPU, or -1 when it has ended: the clock's number is made of the thread's, as in glibc.
         */
      static long long cyconv_cpu_time(int thread) {
        struct timespec used;
        if (clock_gettime((clockid_t)(~(unsigned)thread << 3 | 6), &used)) return -1;
        return used.tv_sec * 1000000000LL + used.tv_nsec;
      }
      static int cyconv_is_active(int slot, long long now) {
        long long called = CYCONV_LOAD(cyconv_callers[slot].called), looked, used, before;
        if (now - called < CYCONV_ACTIVE || now - CYCONV_LOAD(cyconv_callers[slot].busy) < CYCONV_ACTIVE) return 1;
        looked = CYCONV_LOAD(cyconv_callers[slot].looked);
        if (now - called > CYCONV_LASTING || now - looked < CYCONV_ACTIVE) return 0;
        used = cyconv_cpu_time(CYCONV_LOAD(cyconv_callers[slot].thread));
        before = CYCONV_LOAD(cyconv_callers[slot].cpu);
        CYCONV_STORE(cyconv_callers[slot].looked, now);
        CYCONV_STORE(cyconv_callers[slot].cpu, used);
        if ((used - before) * 16 < now - looked) return 0;
        CYCONV_STORE(cyconv_callers[slot].busy, now);
        return 1;
      }
      static int cyconv_claim(long long now) {
        int i, thread, slots;
        if (!cyconv_self.thread) cyconv_self.thread = (int)syscall(SYS_gettid);
        for (i = 0; i < CYCONV_CALLERS; i++) {
          thread = CYCONV_LOAD(cyconv_callers[i].thread);
          if (thread && (now - CYCONV_LOAD(cyconv_callers[i].called) < CYCONV_ACTIVE
                         || (now - CYCONV_LOAD(cyconv_callers[i].called) < CYCONV_LASTING
                             && cyconv_cpu_time(thread) >= 0))) continue;
          if (!__atomic_compare_exchange_n(&cyconv_callers[i].thread, &thread, cyconv_self.thread, 0,
                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
          CYCONV_STORE(cyconv_callers[i].called, now);
          CYCONV_STORE(cyconv_callers[i].looked, now);
          CYCONV_STORE(cyconv_callers[i].cpu, cyconv_cpu_time(cyconv_self.thread));
          slots = CYCONV_LOAD(cyconv_slots);
          while (slots <= i && !__atomic_compare_exchange_n(
                   &cyconv_slots, &slots, i + 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
          return i;
        }
        return -1;
      }
      /* How many threads of so many the calling thread may use where so many cores are shared. */
      static int cyconv_share(int threads, int cores) {
        long long now = cyconv_time(CLOCK_MONOTONIC_COARSE);
        int slot = cyconv_self.slot, active = 0, rank = 0, share, i, slots;
        if (!cyconv_self.thread || slot < 0 || CYCONV_LOAD(cyconv_callers[slot].thread) != cyconv_self.thread)
          slot = cyconv_self.slot = cyconv_claim(now);
        else if (CYCONV_LOAD(cyconv_callers[slot].called) != now)
          CYCONV_STORE(cyconv_callers[slot].called, now);
        slots = CYCONV_LOAD(cyconv_slots);
        for (i = 0; i < slots; i++)
          if (i == slot || cyconv_is_active(i, now)) {
            active++;
            rank += i < slot;
          }
        if (slot < 0) rank = active++;
        if (active < 2) return threads;
        share = cores / active + (rank < cores % active);
        if (share < 1) share = 1;
        return share < threads ? share : threads;
      }
      static void cyconv_forget_callers(void) {
        int i;
        for (i = 0; i < CYCONV_CALLERS; i++) CYCONV_STORE(cyconv_callers[i].thread, 0);
        CYCONV_STORE(cyconv_slots, 0);
        cyconv_self.thread = 0;
      }
    #else
      static int cyconv_share(int threads, int cores) { (void)cores; return threads; }
      static void cyconv_forget_callers(void) {}
    #endif

    /* A child of fork() has none of the pool's threads, yet its copy of GCC's runtime would wait for them for ever.
       Releasing the pool just before every fork lets parent and child each start a fresh one on their next use. LLVM's
       runtime sees to that itself, and must not be called then: it holds its own locks. */
    #if defined(_OPENMP) && !defined(_WIN32)
      #if __GNUC__ >= 9 || __clang_major__ >= 9
        #define CYCONV_CAN_PAUSE 1
      #else
        #define CYCONV_CAN_PAUSE 0
      #endif
      static void cyconv_before_fork(void) {
      #if CYCONV_CAN_PAUSE
        omp_pause_resource_all(omp_pause_hard);
      #endif
        cyconv_team.started = 0;
      }
      static void cyconv_in_child(void) {
        pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
        cyconv_turn = fresh;
        cyconv_team.started = 0;
        cyconv_forget_callers();
      }
      static int cyconv_guard_fork(void) {
        cyconv_llvm = cyconv_is_llvm();
        if (pthread_atfork(cyconv_llvm ? 0 : cyconv_before_fork, 0, cyconv_in_child)) return 0;
        return cyconv_llvm || CYCONV_CAN_PAUSE;
      }
    #else
      static int cyconv_guard_fork(void) { return 0; }
    #endif

    /* Whether the calling thread gets all threads, whoever else keeps the cores busy. */
    #if defined(_MSC_VER)
      #define CYCONV_THREAD_LOCAL __declspec(thread)
    #else
      #define CYCONV_THREAD_LOCAL __thread
    #endif
    static CYCONV_THREAD_LOCAL int cyconv_whole;
    static int cyconv_set_whole(int whole) {
      int before = cyconv_whole;
      cyconv_whole = whole;
      return before;
    }
    static int cyconv_is_whole(void) { return cyconv_whole; }
    """
    const int openmp_version "cyconv_openmp_version"
    int supports "cyconv_supports"(int level)
    int guard_fork "cyconv_guard_fork"()
    int is_llvm "cyconv_is_llvm"()
    int startable "cyconv_startable"(int wanted)
    int started "cyconv_started"()
    int reduced_team "cyconv_reduced"()
    int start "cyconv_start"(int wanted)
    void shrink "cyconv_shrink"(int threads)
    int limit_of_runtime "cyconv_runtime_limit"()
    int share "cyconv_share"(int threads, int cores)
    int is_whole "cyconv_is_whole"()
    int set_whole "cyconv_set_whole"(int whole)
    int settled "cyconv_settled"()
    void meet "cyconv_meet"(int threads)
    int welcome "cyconv_welcome"(int threads)
    const int can_meet "cyconv_can_meet()"


def usable_instruction_sets():
    """Return the tags of the instruction sets this machine can run, slowest first."""
    levels = {"baseline": 2, "avx2": 3, "avx512": 4}
    return [tag for tag, level in levels.items() if supports(level)]


def startable_threads(int wanted):
    """Return how many of `wanted` threads more this process can have at this moment."""
    cdef int count
    with nogil:
        count = startable(wanted)
    return count


def started_threads():
    """Return the size of the calling thread's team, 0 if it has none yet."""
    return started()


def limited(int count):
    """Return how many of so many threads the OpenMP runtime and the system's limits leave to the calling thread.

    The runtime's own number is a limit where somebody has changed it since it was loaded, as threadpoolctl does.
    """
    cdef int limit = limit_of_runtime()
    if limit != INITIAL_LIMIT:
        count = min(count, max(limit, 1))
    limit = reduced_team()
    return min(count, limit) if limit else count


def whole_teams(bint whole):
    """Give the calling thread all threads it asks `team` for, or its share of the cores; return what it got before."""
    return bool(set_whole(whole))


def team(int count, int cores, bint spreads):
    """Return how many of so many threads the caller's next kernel is to use, and see to it that they can run.

    They are as many as the OpenMP runtime allows, the caller's share of so many cores (0 if it need not share them),
    those that can be started at all, and with `spreads` those that `spread` leaves.
    """
    cdef int limit = limit_of_runtime()
    if limit != INITIAL_LIMIT:
        count = min(count, max(limit, 1))
    if cores and not is_whole():
        count = share(count, cores)
    if count > started() and count > 1:
        with nogil:
            count = start(count)
    if count > 1 and spreads and not is_whole():
        count = spread(count)
    shrink(count)
    return count


cpdef int spread(int threads):
    """Return how many of the caller's team of so many threads are to work, and see to it that each has a core.

    If it is due and there are enough cores, the other threads are kept off the caller's core for a while. A convolution
    of 5.0 ms on one thread took 5.8 ms on two after a pause of 50 ms, and 5.4 ms the next time; with this 3.1 and
    2.8 ms (medians of 7, two cores of a virtual machine). Those that have no core because other programs are busy are
    left out for a while: LeNet-5's training step of 2.0 ms on two threads, 3.4 ms on one, took 13 ms beside one.
    """
    if not settled():
        with nogil:
            meet(threads)
    return welcome(threads)


CAN_SPREAD = bool(can_meet)  # whether `spread` does anything
OPENMP_VERSION = openmp_version  # date code of the OpenMP standard, 0 for a serial build
FORK_SAFE = bool(guard_fork())
RUNTIME = ("LLVM" if is_llvm() else "GCC") if openmp_version else None  # whose OpenMP the kernels run on
cdef int INITIAL_LIMIT = limit_of_runtime()

"""What this CPU, operating system and build can run: instruction sets, OpenMP, and a fork-safe OpenMP runtime.

And one thing it can be told: on which cores that runtime's threads had better run.
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

    /* A child of fork() has none of the pool's threads, yet its copy of the runtime would wait for them for ever.
       Releasing the pool just before every fork lets parent and child each start a fresh one on their next use. */
    #if defined(_OPENMP) && !defined(_WIN32) && (__GNUC__ >= 9 || __clang_major__ >= 9)
      #include <pthread.h>
      static void cyconv_before_fork(void) { omp_pause_resource_all(omp_pause_hard); }
      static int cyconv_guard_fork(void) { return pthread_atfork(cyconv_before_fork, 0, 0) == 0; }
    #else
      static int cyconv_guard_fork(void) { return 0; }
    #endif

    /* Where the runtime cannot start a thread it ends the process, so whether it could is tried out here: all at once
       they wait for `gate`, then end. Threads get the stack that the runtime's get, unless OMP_STACKSIZE is set. */
    #if defined(_OPENMP) && !defined(_WIN32)
      #include <pthread.h>
      #include <stdlib.h>
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
    #else
      static int cyconv_startable(int wanted) { return wanted; }
    #endif
    """
    const int openmp_version "cyconv_openmp_version"
    int supports "cyconv_supports"(int level)
    int guard_fork "cyconv_guard_fork"()
    int startable "cyconv_startable"(int wanted)
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


def spread(int threads):
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

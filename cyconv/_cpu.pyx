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

    /* Two threads of a team that wake up on one core stay there for tens of milliseconds, though another is idle. So
       now and then, and whenever the caller finds itself on another core, the team meets: workers that woke up on the
       caller's core hop to another one, on which nothing holds them, and the caller waits awake, because the system
       brings a thread that sleeps to the core of the one that wakes it. */
    #if defined(_OPENMP) && defined(__linux__)
      #include <sched.h>
      #include <time.h>
      /* In nanoseconds. Pauses from 8 ms on were seen to bring both threads of two to one core; idle cores of a virtual
         machine took up to 0.24 ms to wake up. Who has waited in vain shares the cores with others: leave it then. */
      #define CYCONV_PERIOD 5000000
      #define CYCONV_PATIENCE 500000
      #define CYCONV_RETREAT 100000000

      static __thread struct { int core, crowded; long long due; } cyconv_met; /* where and how, the next time when */

      static long long cyconv_time(clockid_t clock) {
        struct timespec now;
        clock_gettime(clock, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
      }
      static int cyconv_settled(void) {
        if (cyconv_time(CLOCK_MONOTONIC_COARSE) >= cyconv_met.due) return 0;
        return cyconv_met.crowded || sched_getcpu() == cyconv_met.core;
      }
      static void cyconv_hop(int core) {
        cpu_set_t allowed, others;
        if (sched_getcpu() != core || sched_getaffinity(0, sizeof allowed, &allowed)) return;
        others = allowed;
        CPU_CLR(core, &others);
        if (CPU_COUNT(&others) && !sched_setaffinity(0, sizeof others, &others))
          sched_setaffinity(0, sizeof allowed, &allowed);
      }
      static void cyconv_meet(int threads) {
        int core = sched_getcpu(), here = 1, crowded = 1;
        cpu_set_t allowed;
        if (core >= 0 && !sched_getaffinity(0, sizeof allowed, &allowed) && threads <= CPU_COUNT(&allowed)) {
          #pragma omp parallel num_threads(threads)
          if (omp_get_thread_num()) {
            cyconv_hop(core);
            __atomic_add_fetch(&here, 1, __ATOMIC_RELEASE);
          } else {
            long long end = cyconv_time(CLOCK_MONOTONIC) + CYCONV_PATIENCE;
            int all = omp_get_num_threads(), late;
            while ((late = __atomic_load_n(&here, __ATOMIC_ACQUIRE) < all) && cyconv_time(CLOCK_MONOTONIC) < end)
              sched_yield();
            crowded = late;
          }
        }
        cyconv_met.core = core;
        cyconv_met.crowded = crowded;
        cyconv_met.due = cyconv_time(CLOCK_MONOTONIC_COARSE) + (crowded ? CYCONV_RETREAT : CYCONV_PERIOD);
      }
      static int cyconv_can_meet(void) { return 1; }
    #else
      static int cyconv_settled(void) { return 1; }
      static void cyconv_meet(int threads) { (void)threads; }
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
    """Keep the threads of the caller's team on cores of their own, if it is due and there are as many cores."""
    if not settled():
        with nogil:
            meet(threads)


CAN_SPREAD = bool(can_meet)  # whether `spread` does anything
OPENMP_VERSION = openmp_version  # date code of the OpenMP standard, 0 for a serial build
FORK_SAFE = bool(guard_fork())

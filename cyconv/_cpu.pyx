"""What this CPU, operating system and build can run: instruction sets, OpenMP, and a fork-safe OpenMP runtime."""

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


OPENMP_VERSION = openmp_version  # date code of the OpenMP standard, 0 for a serial build
FORK_SAFE = bool(guard_fork())

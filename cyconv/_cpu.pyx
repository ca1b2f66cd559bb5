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
    """
    const int openmp_version "cyconv_openmp_version"
    int supports "cyconv_supports"(int level)
    int guard_fork "cyconv_guard_fork"()


def usable_instruction_sets():
    """Return the tags of the instruction sets this machine can run, slowest first."""
    levels = {"baseline": 2, "avx2": 3, "avx512": 4}
    return [tag for tag, level in levels.items() if supports(level)]


OPENMP_VERSION = openmp_version  # date code of the OpenMP standard, 0 for a serial build
FORK_SAFE = bool(guard_fork())

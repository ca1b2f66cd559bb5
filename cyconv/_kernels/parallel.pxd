"""OpenMP symbols, with a serial fallback where the compiler has none, and how work is cut."""

from libc.stdint cimport uintptr_t

cdef enum:
    LINE = 64  # bytes of a cache line

cdef extern from * nogil:
    """
    #ifdef _OPENMP
      #include <omp.h>
      #define cyconv_thread() ((Py_ssize_t)omp_get_thread_num())
    #else
      #define cyconv_thread() ((Py_ssize_t)0)
    #endif
    """
    Py_ssize_t this_thread "cyconv_thread"()


cdef inline void* next_line(const void* end) noexcept nogil:
    """The first cache line from an address on: where a table begins behind arrays that may end anywhere.

    It takes up to LINE - 1 bytes more.
    """
    return <void*>(<uintptr_t>end + <uintptr_t>(LINE - 1) & ~<uintptr_t>(LINE - 1))


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Py_ssize_t share_start(Py_ssize_t total, Py_ssize_t parts, Py_ssize_t part) noexcept nogil:
    """First item of share `part` when `total` items are cut into `parts` runs, long by one evenly here and there.

    Threads take runs of shares; were the longer ones at the front, the first thread would have more to do.
    """
    return total // parts * part + total % parts * part // parts


cdef inline Py_ssize_t segment_tasks(Py_ssize_t tasks, double work, int num_threads) noexcept nogil:
    """How many tasks run between two looks for a pending Ctrl-C: about a billion multiply-adds a core, some 10 ms.

    Segments are equally long, and no thread is idle in any but the last.
    """
    cdef Py_ssize_t segments = 1 + <Py_ssize_t>min(<double>tasks, work / (1e9 * num_threads))
    return max(<Py_ssize_t>1, ceil_div(ceil_div(tasks, segments), num_threads)) * num_threads

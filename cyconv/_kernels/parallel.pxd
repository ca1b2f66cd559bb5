"""OpenMP symbols, with a serial fallback where the compiler has none, and how work is cut."""

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


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Py_ssize_t share_start(Py_ssize_t total, Py_ssize_t parts, Py_ssize_t part) noexcept nogil:
    """First item of share `part` when `total` items are cut into `parts` nearly equal runs."""
    return total // parts * part + min(part, total % parts)


cdef inline Py_ssize_t segment_tasks(Py_ssize_t tasks, double work, int num_threads) noexcept nogil:
    """How many tasks run between two looks for a pending Ctrl-C: a billion multiply-adds a core, some 10 ms of them."""
    return max(num_threads, <Py_ssize_t>(tasks * min(1.0, 1e9 * num_threads / max(work, 1.0))))

"""OpenMP symbols, with a serial fallback where the compiler has none, how work is cut, and how Ctrl-C is heard."""

from libc.stdint cimport uintptr_t

cdef enum:
    LINE = 64  # bytes of a cache line

cdef extern from * nogil:
    """
    #ifdef _OPENMP
      #include <omp.h>
      #define cyconv_thread() ((Py_ssize_t)omp_get_thread_num())
      #define cyconv_seconds() omp_get_wtime()
    #else
      #include <time.h>
      #define cyconv_thread() ((Py_ssize_t)0)
      #define cyconv_seconds() ((double)clock() / CLOCKS_PER_SEC)
    #endif

    #define CYCONV_LISTEN 0.05 /* seconds between two looks: each may wait some milliseconds for the GIL */

    #define CYCONV_OFTEN 0.0005  /* between two calls of `interrupted`: not all need look at the clock then */

    /* A call of a kernel that may take long. Its loops ask `interrupted` every millisecond or so and leave off when it
       is true; behind the parallel region `raise_if_interrupted` lets the exception, that of the signal's handler, go
       on. Only the calling thread may look for signals; the others learn what it found. */
    typedef struct { int stop, skip, skipped; double last, next; } cyconv_listener;

    static inline void cyconv_listen(cyconv_listener *listener) {
      listener->stop = listener->skip = listener->skipped = 0;
      listener->last = cyconv_seconds();
      listener->next = listener->last + CYCONV_LISTEN;
    }
    /* Apart from the loops that ask, which are to stay small. */
    __attribute__((unused, noinline, cold)) static int cyconv_look(cyconv_listener *listener) {
      int stop = 0;
      double now;
      if (cyconv_thread() || ++listener->skipped <= listener->skip) return 0;
      now = cyconv_seconds();
      listener->skip = now - listener->last > CYCONV_OFTEN ? 0 : listener->skip < 32 ? 2 * listener->skip + 1 : 63;
      listener->skipped = 0;
      listener->last = now;
      if (now >= listener->next) {
        PyGILState_STATE state = PyGILState_Ensure();
        stop = PyErr_CheckSignals() != 0;
        PyGILState_Release(state);
        __atomic_store_n(&listener->stop, stop, __ATOMIC_RELAXED);
        listener->next = cyconv_seconds() + CYCONV_LISTEN;
      }
      return stop;
    }
    static inline int cyconv_interrupted(cyconv_listener *listener) {
      return __atomic_load_n(&listener->stop, __ATOMIC_RELAXED) || cyconv_look(listener);
    }
    """
    Py_ssize_t this_thread "cyconv_thread"()

    ctypedef struct Listener "cyconv_listener":
        int stop
    void listen "cyconv_listen"(Listener* listener)
    bint interrupted "cyconv_interrupted"(Listener* listener)

cdef enum:
    TURN = 1 << 20  # multiply-adds between two calls of `interrupted`, about: some tenths of a millisecond


cdef inline int raise_if_interrupted(const Listener* listener) except -1:
    """Let the exception of an interrupted call go on."""
    return -1 if listener.stop else 0


cdef inline Py_ssize_t turn(Py_ssize_t cost) noexcept nogil:
    """How many items of such a cost are done between two calls of `interrupted`."""
    return max(<Py_ssize_t>1, TURN // max(<Py_ssize_t>1, cost))


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

"""The caching allocator: freed blocks wait in free lists, because fresh large memory costs a page fault every 4 KB.

All bookkeeping runs with the GIL held, which is its lock. A cached block's first bytes hold its list links.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uintptr_t

cdef extern from * nogil:
    """
    #include <stdlib.h>
    #if defined(_WIN32)
      #include <malloc.h>
      static void *cyconv_allocate(size_t size, size_t alignment) { return _aligned_malloc(size, alignment); }
      static void cyconv_free(void *address) { _aligned_free(address); }
    #else
      #include <sys/mman.h>
      static void *cyconv_allocate(size_t size, size_t alignment) {
        void *address = 0;
        if (posix_memalign(&address, alignment, size)) return 0;
      #ifdef MADV_HUGEPAGE
        if (alignment >= ((size_t)1 << 21)) madvise(address, size, MADV_HUGEPAGE);
      #endif
        return address;
      }
      static void cyconv_free(void *address) { free(address); }
    #endif
    """
    void* system_allocate "cyconv_allocate"(size_t size, size_t alignment)
    void system_free "cyconv_free"(void* address)

cdef struct Cached:
    Cached* next      # same size class, towards older
    Cached* previous
    Cached* newer     # all classes, in order of release
    Cached* older
    size_t size

cdef enum:
    CLASSES = 1024
    ALIGNMENT = 64
    SLACK = 64 << 20        # the cache may always hold this much beyond the peak
cdef size_t HUGE_PAGE = <size_t>1 << 21

cdef Cached* heads[CLASSES]
cdef Cached* newest = NULL
cdef Cached* oldest = NULL
cdef size_t cached_bytes = 0
cdef size_t used_bytes = 0
cdef size_t peak_bytes = 0
cdef size_t limit_bytes = <size_t>-1
cdef size_t system_calls = 0


cdef inline size_t class_size(size_t size, Py_ssize_t* index) noexcept nogil:
    """Round up to one of eight steps per power of two (at most 12.5% waste) and number the step."""
    cdef size_t step = 64
    cdef Py_ssize_t octave = 0
    if size < 512:
        size = 512 if size > 256 else 256
    while step * 16 < size:
        step <<= 1
        octave += 1
    size = (size + step - 1) & ~(step - 1)
    index[0] = octave * 16 + <Py_ssize_t>(size // step) - 1
    return size


cdef void unlink(Cached* node) noexcept nogil:
    global newest, oldest, cached_bytes
    cdef Py_ssize_t index
    class_size(node.size, &index)
    if node.previous != NULL:
        node.previous.next = node.next
    else:
        heads[index] = node.next
    if node.next != NULL:
        node.next.previous = node.previous
    if node.newer != NULL:
        node.newer.older = node.older
    else:
        newest = node.older
    if node.older != NULL:
        node.older.newer = node.newer
    else:
        oldest = node.newer
    cached_bytes -= node.size


cdef void evict_down_to(size_t target) noexcept nogil:
    """Give the least recently released blocks back to the system until at most `target` bytes are cached."""
    cdef Cached* node
    while cached_bytes > target and oldest != NULL:
        node = oldest
        unlink(node)
        system_free(node)


cdef void* acquire(size_t request, size_t* size) noexcept:
    global used_bytes, peak_bytes, system_calls
    cdef Py_ssize_t index
    cdef void* address
    cdef size_t allowed
    size[0] = class_size(request, &index)
    if heads[index] != NULL:
        address = heads[index]
        unlink(heads[index])
    else:
        # Under varying shapes the cache would grow without bound: keep used + cached near the peak of what was used.
        allowed = max(peak_bytes, used_bytes + size[0])
        allowed = allowed + allowed // 4 + SLACK - (used_bytes + size[0])
        if cached_bytes > allowed:
            evict_down_to(allowed)
        address = system_allocate(size[0], HUGE_PAGE if size[0] >= 2 * HUGE_PAGE else ALIGNMENT)
        if address == NULL:  # the cache itself may be what stands in the way
            evict_down_to(0)
            address = system_allocate(size[0], ALIGNMENT)
            if address == NULL:
                return NULL
        system_calls += 1
    used_bytes += size[0]
    peak_bytes = max(peak_bytes, used_bytes)
    return address


cdef void release(void* address, size_t size) noexcept:
    global newest, oldest, cached_bytes, used_bytes
    cdef Cached* node = <Cached*>address
    cdef Py_ssize_t index
    used_bytes -= size
    if size > limit_bytes:
        system_free(address)
        return
    class_size(size, &index)
    node.size = size
    node.previous = NULL
    node.next = heads[index]
    if node.next != NULL:
        node.next.previous = node
    heads[index] = node
    node.newer = NULL
    node.older = newest
    if newest != NULL:
        newest.newer = node
    newest = node
    if oldest == NULL:
        oldest = node
    cached_bytes += size
    evict_down_to(limit_bytes)


cdef class Block:
    """A 64-byte-aligned piece of memory that exports the buffer protocol and returns to the cache when it dies."""

    def __cinit__(self, size_t size):
        self.address = acquire(size, &self.size)
        if self.address == NULL:
            raise MemoryError(f"cyconv: could not allocate {size} bytes")

    def __dealloc__(self):
        if self.address != NULL:
            release(self.address, self.size)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.address, <Py_ssize_t>self.size, 0, flags)

    @property
    def pointer(self):
        """Address of the first byte."""
        return <uintptr_t>self.address


def statistics():
    """Return the allocator's counters in bytes, and how often it asked the system."""
    return {
        "used": used_bytes,
        "cached": cached_bytes,
        "peak": peak_bytes,
        "limit": None if limit_bytes == <size_t>-1 else limit_bytes,
        "system_allocations": system_calls,
    }


def trim(size_t target=0):
    """Give cached blocks back to the system, oldest first, until at most `target` bytes stay cached."""
    evict_down_to(target)


def set_cache_limit(limit):
    """Bound the cache to `limit` bytes from now on (None: no bound but the peak of use)."""
    global limit_bytes
    limit_bytes = <size_t>-1 if limit is None else <size_t>limit
    evict_down_to(limit_bytes)


def reset_peak():
    """Start the peak anew from what is in use now."""
    global peak_bytes
    peak_bytes = used_bytes

"""The caching allocator: freed memory waits for reuse, because fresh memory costs a page fault every 4 KB.

Small blocks come from the system one by one and wait in free lists, one for each size class; a waiting block's first
bytes hold its links. Large ones are cut from segments: a freed piece joins its free neighbours, the lowest free piece
that is large enough serves a request, and what it has too much stays free. So memory that was an activation serves as
workspace a moment later, whatever their sizes, and the pages a process holds are little more than it uses at its peak.
A segment reserves addresses, not pages: those are had on first touch, and can be given back while it lives. What the
system would refuse to grant at once, as it does what is more than all of its memory, is refused here too.

All bookkeeping runs with the GIL held, which is its lock.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from * nogil:
    """
    #include <stdlib.h>
    #if defined(_WIN32)
      #include <malloc.h>
      static void *cyconv_allocate(size_t size) { return _aligned_malloc(size, 64); }
      static void cyconv_free(void *address) { _aligned_free(address); }
      enum { cyconv_spare = 0 };
      static void *cyconv_map(size_t size, int spare) { (void)spare; return _aligned_malloc(size, 4096); }
      static void cyconv_unmap(void *address, size_t size) { (void)size; _aligned_free(address); }
      static int cyconv_purge(void *address, size_t size) { (void)address; (void)size; return 0; }
    #else
      #include <stdint.h>
      #include <sys/mman.h>
      #ifndef MAP_ANONYMOUS
        #define MAP_ANONYMOUS MAP_ANON
      #endif
      #ifndef MAP_NORESERVE
        #define MAP_NORESERVE 0
      #endif
      static void *cyconv_allocate(size_t size) {
        void *address = 0;
        return posix_memalign(&address, 64, size) ? 0 : address;
      }
      static void cyconv_free(void *address) { free(address); }
      enum { cyconv_spare = 1 };  /* whether addresses without pages cost nothing */
      static char *cyconv_map_at(void *address, size_t size, int flags) {
        char *start = (char *)mmap(
            address, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
        return start == (char *)MAP_FAILED ? 0 : start;
      }
      static void *cyconv_map(size_t size, int spare) {
        const size_t page = (size_t)1 << 21;  /* a huge one, where the system has them */
        char *start, *aligned;
        if (size + page < size || !(start = cyconv_map_at(0, size + page, 0))) return 0;
        /* It has been granted as any other memory is. What is spare need not count as promised: fork() would have to
           promise it again. */
        if (spare && MAP_NORESERVE && !cyconv_map_at(start, size + page, MAP_FIXED | MAP_NORESERVE)) {
          munmap(start, size + page);
          return 0;
        }
        aligned = (char *)(((uintptr_t)start + page - 1) & ~(uintptr_t)(page - 1));
        if (aligned > start) munmap(start, aligned - start);
        if (start + page > aligned) munmap(aligned + size, start + page - aligned);
      #ifdef MADV_HUGEPAGE
        madvise(aligned, size, MADV_HUGEPAGE);
      #endif
        return aligned;
      }
      static void cyconv_unmap(void *address, size_t size) { munmap(address, size); }
      static int cyconv_purge(void *address, size_t size) { return madvise(address, size, MADV_DONTNEED) == 0; }
    #endif
    """
    void* system_allocate "cyconv_allocate"(size_t size)
    void system_free "cyconv_free"(void* address)
    const bint SPARE_ADDRESSES "cyconv_spare"
    void* system_map "cyconv_map"(size_t size, bint spare)  # whole pages; `spare`: most of them will not be touched
    void system_unmap "cyconv_unmap"(void* address, size_t size)
    bint system_purge "cyconv_purge"(void* address, size_t size)  # pages become zeros; False where that is impossible

cdef struct Cached:
    Cached* next      # same size class, towards older
    Cached* previous
    Cached* newer     # all classes, in order of release
    Cached* older
    size_t size

cdef struct Piece:
    char* start
    size_t size
    size_t resident   # of a free piece: pages lie within so many of its first bytes
    bint is_free
    Piece* before     # neighbours in the segment, in order of address
    Piece* after
    Piece* lower      # free pieces, in order of address
    Piece* higher

cdef enum:
    CLASSES = 1024
    PAGE = 4096
    LARGE = 1 << 20         # from here on blocks are pieces of segments
    SEGMENT_PAGES = 1 << 20     # reserved at a time, 4 GB of addresses: with 256 MB a U-Net's step held 20% more
    SLACK = 64 << 20        # the cache may always hold this much beyond the peak

cdef Cached* heads[CLASSES]
cdef Cached* newest = NULL
cdef Cached* oldest = NULL
cdef Piece* lowest = NULL
cdef Piece* highest = NULL
cdef size_t cached_bytes = 0
cdef size_t used_bytes = 0
cdef size_t peak_bytes = 0
cdef size_t most_bytes = 0      # the peak since the cache was last emptied, which bounds it
cdef size_t limit_bytes = <size_t>-1
cdef size_t system_calls = 0


# Small blocks

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


cdef void* take_small(Py_ssize_t index, size_t size) noexcept:
    global system_calls
    cdef void* address = heads[index]
    if address != NULL:
        unlink(heads[index])
        return address
    address = system_allocate(size)
    system_calls += address != NULL
    return address


cdef void put_small(void* address, size_t size) noexcept:
    global newest, oldest, cached_bytes
    cdef Cached* node = <Cached*>address
    cdef Py_ssize_t index
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


# Pieces of segments

cdef void list_free(Piece* piece) noexcept:
    """Enter a piece among the free ones, in its place by address."""
    global lowest, highest
    cdef Piece* higher = lowest
    while higher != NULL and higher.start < piece.start:
        higher = higher.higher
    piece.is_free = True
    piece.higher = higher
    piece.lower = highest if higher == NULL else higher.lower
    if piece.lower != NULL:
        piece.lower.higher = piece
    else:
        lowest = piece
    if higher != NULL:
        higher.lower = piece
    else:
        highest = piece


cdef void unlist_free(Piece* piece) noexcept:
    global lowest, highest
    piece.is_free = False
    if piece.lower != NULL:
        piece.lower.higher = piece.higher
    else:
        lowest = piece.higher
    if piece.higher != NULL:
        piece.higher.lower = piece.lower
    else:
        highest = piece.lower


cdef Piece* new_piece(char* start, size_t size) noexcept:
    cdef Piece* piece = <Piece*>malloc(sizeof(Piece))
    if piece != NULL:
        piece.start, piece.size, piece.resident, piece.is_free = start, size, 0, False
        piece.before = piece.after = NULL
    return piece


cdef Piece* new_segment(size_t size) noexcept:
    """Reserve addresses for at least `size` bytes: one free piece, or NULL."""
    global system_calls
    cdef size_t reserved = max(size, <size_t>SEGMENT_PAGES * PAGE) if SPARE_ADDRESSES else size
    cdef void* start = system_map(reserved, reserved > size)
    cdef Piece* piece
    while start == NULL and reserved > size:  # there may be less memory, or addresses may be limited
        reserved = max(size, reserved // 2 // PAGE * PAGE)
        start = system_map(reserved, reserved > size)
    if start == NULL:
        return NULL
    piece = new_piece(<char*>start, reserved)
    if piece == NULL:
        system_unmap(start, reserved)
        return NULL
    system_calls += 1
    list_free(piece)
    return piece


cdef Piece* take_piece(size_t size) noexcept:
    """Return the lowest free piece that is large enough, without what it has too much; NULL if there is none.

    Low ones first keeps use together: the smallest that is large enough took 12% more pages (a U-Net's training step).
    """
    global cached_bytes
    cdef Piece* best = lowest
    cdef Piece* rest
    while best != NULL and best.size < size:
        best = best.higher
    if best == NULL:
        best = new_segment(size)
        if best == NULL:
            return NULL
    cached_bytes -= best.resident
    rest = new_piece(best.start + size, best.size - size) if best.size > size else NULL
    if rest != NULL:  # if there is no memory for that, the whole piece serves
        rest.before, rest.after = best, best.after
        if best.after != NULL:
            best.after.before = rest
        best.after = rest
        best.size = size
        rest.resident = best.resident - size if best.resident > size else 0
        cached_bytes += rest.resident
        list_free(rest)
    unlist_free(best)
    return best


cdef void join_next(Piece* piece) noexcept:
    """Add the neighbour after a piece to it."""
    global cached_bytes
    cdef Piece* next = piece.after
    if next.resident:  # what lies before that counts too
        cached_bytes += piece.size - piece.resident
        piece.resident = piece.size + next.resident
    piece.size += next.size
    piece.after = next.after
    if next.after != NULL:
        next.after.before = piece
    free(next)


cdef void put_piece(Piece* piece) noexcept:
    global cached_bytes
    piece.resident = piece.size
    cached_bytes += piece.size
    if piece.after != NULL and piece.after.is_free:
        unlist_free(piece.after)
        join_next(piece)
    if piece.before != NULL and piece.before.is_free:
        join_next(piece.before)
    else:
        list_free(piece)


cdef void purge(Piece* piece, size_t excess) noexcept:
    """Give at least `excess` bytes of a free piece back to the system, or all: the last ones, or the whole segment."""
    global cached_bytes
    cdef size_t size
    if piece.before == NULL and piece.after == NULL and excess >= piece.resident:
        cached_bytes -= piece.resident
        unlist_free(piece)
        system_unmap(piece.start, piece.size)
        free(piece)
        return
    size = min(piece.resident, (excess + PAGE - 1) & ~<size_t>(PAGE - 1))
    if size and system_purge(piece.start + piece.resident - size, size):
        piece.resident -= size
        cached_bytes -= size


cdef void evict_down_to(size_t target) noexcept:
    """Give memory back until at most `target` bytes are cached: the highest pieces, then the oldest small blocks."""
    cdef Piece* piece = highest
    cdef Piece* lower
    cdef Cached* node
    while cached_bytes > target and piece != NULL:
        lower = piece.lower
        purge(piece, cached_bytes - target)
        piece = lower
    while cached_bytes > target and oldest != NULL:
        node = oldest
        unlink(node)
        system_free(node)


# Both

cdef void* acquire(size_t request, size_t* size, Piece** piece) noexcept:
    global used_bytes, peak_bytes, most_bytes
    cdef Py_ssize_t index = 0, _attempt
    cdef size_t allowed
    cdef void* address = NULL
    piece[0] = NULL
    if request >= LARGE:
        size[0] = (request + PAGE - 1) & ~<size_t>(PAGE - 1)
    else:
        size[0] = class_size(request, &index)
    # Under varying shapes the cache would grow without bound: keep used + cached near the peak of what was used.
    allowed = max(most_bytes, used_bytes + size[0])
    allowed = allowed + allowed // 4 + SLACK - (used_bytes + size[0])
    for _attempt in range(2):
        if request >= LARGE:
            piece[0] = take_piece(size[0])
            if piece[0] != NULL:
                address = piece[0].start
                size[0] = piece[0].size
        else:
            address = take_small(index, size[0])
        if address != NULL:
            break
        evict_down_to(0)  # the cache itself may be what stands in the way
    if address == NULL:
        return NULL
    if cached_bytes > allowed:
        evict_down_to(allowed)
    used_bytes += size[0]
    peak_bytes = max(peak_bytes, used_bytes)
    most_bytes = max(most_bytes, used_bytes)
    return address


cdef void release(void* address, size_t size, Piece* piece) noexcept:
    global used_bytes
    used_bytes -= size
    if piece != NULL:
        put_piece(piece)
    elif size > limit_bytes:
        system_free(address)
        return
    else:
        put_small(address, size)
    evict_down_to(limit_bytes)


cdef class Block:
    """A 64-byte-aligned piece of memory that exports the buffer protocol and returns to the cache when it dies."""

    def __cinit__(self, size_t size):
        self.address = acquire(size, &self.size, <Piece**>&self.piece)
        if self.address == NULL:
            raise MemoryError(f"cyconv: could not allocate {size} bytes")

    def __dealloc__(self):
        if self.address != NULL:
            release(self.address, self.size, <Piece*>self.piece)

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


def would_grant(size_t size):
    """Return whether the system would grant so many bytes at once."""
    cdef void* start = system_map(size, False)
    if start != NULL:
        system_unmap(start, size)
    return start != NULL


def trim(size_t target=0):
    """Give cached memory back to the system until at most `target` bytes stay cached."""
    global most_bytes
    evict_down_to(target)
    most_bytes = used_bytes


def set_cache_limit(limit):
    """Bound the cache to `limit` bytes from now on (None: no bound but the peak of use)."""
    global limit_bytes
    limit_bytes = <size_t>-1 if limit is None else <size_t>limit
    evict_down_to(limit_bytes)


def reset_peak():
    """Start the peak anew from what is in use now."""
    global peak_bytes
    peak_bytes = used_bytes

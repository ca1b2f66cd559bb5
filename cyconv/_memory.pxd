cdef class Block:
    cdef void* address
    cdef size_t size
    cdef void* piece

"""Kernel calls that were recorded once: running them again, and whether what they were made from is still the same.

A small network's prediction takes some ten calls of a microsecond each, so that what lies between them must cost no
more than they do.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

cdef extern from *:
    Py_ssize_t references "Py_REFCNT"(PyObject* thing)


def replay(list calls):
    """Run each of (function, arguments), in order."""
    cdef tuple call
    for call in calls:
        call[0](*<tuple>call[1])


cdef struct Weights:
    PyObject* values    # borrowed: compared with what the parameter holds before anything is made of it
    PyObject* owner     # what they are a view of, or NULL
    bint alone          # whether nobody but the parameter held them


cdef bint is_alone(const Weights* weights) noexcept:
    return references(weights.values) == 1 and (weights.owner == NULL or references(weights.owner) == 1)


cdef class Watch:
    """Notes what calls depend on; `holds` says whether all of it is as it was noted."""

    cdef list items      # (mapping, key, value): the very object must stay there; `ABSENT`: nothing may be there
    cdef list kinds      # (class, its `forward`)
    cdef list versions   # (attributes of a parameter, version)
    cdef list copies     # what arrays held
    cdef Weights* weights
    cdef Py_buffer* buffers
    cdef Py_ssize_t weights_count, buffers_count

    def __cinit__(self):
        self.items, self.kinds, self.versions, self.copies = [], [], [], []

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.buffers_count):
            PyBuffer_Release(&self.buffers[i])
        free(self.weights)
        free(self.buffers)

    def item(self, dict mapping, key, value):
        """The mapping must have this very object under the key; none for `ABSENT`."""
        self.items.append((mapping, key, value))

    def forward_of(self, kind):
        """The class must keep its `forward`."""
        entry = kind, kind.forward
        if entry not in self.kinds:
            self.kinds.append(entry)

    def weights_of(self, dict attributes):
        """A parameter's values must not change: its version stays, and who might write to them is noticed."""
        cdef Weights* more = <Weights*>malloc((self.weights_count + 1) * sizeof(Weights))
        cdef PyObject* owner
        if more == NULL:
            raise MemoryError
        for i in range(self.weights_count):
            more[i] = self.weights[i]
        free(self.weights)
        self.weights = more
        more += self.weights_count
        more.values = PyDict_GetItem(attributes, "_data")
        base = (<object>more.values).base
        owner = <PyObject*>base
        more.owner = owner if hasattr(base, "dtype") else NULL
        del base
        more.alone = is_alone(more)
        self.versions.append((attributes, attributes["_version"]))
        self.weights_count += 1
        return more.alone

    def contents(self, array):
        """A C-contiguous array's numbers must not change."""
        cdef Py_buffer* more = <Py_buffer*>malloc((self.buffers_count + 1) * sizeof(Py_buffer))
        if more == NULL:
            raise MemoryError
        for i in range(self.buffers_count):
            more[i] = self.buffers[i]
        free(self.buffers)
        self.buffers = more
        PyObject_GetBuffer(array, &more[self.buffers_count], PyBUF_SIMPLE)
        self.buffers_count += 1
        self.copies.append((<char*>more[self.buffers_count - 1].buf)[:more[self.buffers_count - 1].len])

    def holds(self):
        """Return whether everything is as it was."""
        cdef tuple entry
        cdef PyObject* found
        cdef Py_ssize_t i = 0
        for entry in self.items:
            found = PyDict_GetItem(<dict>entry[0], entry[1])
            if found != <PyObject*>entry[2] and not (found == NULL and entry[2] is ABSENT):
                return False
        for entry in self.kinds:
            if entry[0].forward is not entry[1]:
                return False
        for entry in self.versions:
            found = PyDict_GetItem(<dict>entry[0], "_data")
            if found != self.weights[i].values or is_alone(&self.weights[i]) != self.weights[i].alone:
                return False
            # Who holds the values may write to them; what is made of such is made anew each time.
            if self.weights[i].alone and PyDict_GetItem(<dict>entry[0], "_version") != <PyObject*>entry[1]:
                return False
            i += 1
        for i in range(self.buffers_count):
            if memcmp(self.buffers[i].buf, <char*>(<bytes>self.copies[i]), self.buffers[i].len):
                return False
        return True


ABSENT = object()

cimport cython

cdef class Decision:
    cdef public object _op, path, reason

cpdef get_backend()
@cython.locals(decision=Decision)
cpdef record(op, path, reason)
cpdef decide(op, kernel, dtype, program=*)
cdef _obstacle(native, kernel, dtype)

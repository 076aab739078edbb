cdef class Result:
    cdef public object y, final, steps

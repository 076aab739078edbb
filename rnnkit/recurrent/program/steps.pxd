cdef class Steps:
    cdef public object batch_first, reverse, layout, T, N, dtype, count, lengths, _schedule, _places, _before

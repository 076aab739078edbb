cdef class Steps:
    cdef public object batch_first, reverse, layout, T, N, dtype, count, lengths, _schedule, _places, _before

    cpdef before(self, step)
    cpdef rows_of(self, first, last)
    cpdef empty(self, width)
    cpdef _times(self, first, last)
    cpdef _part(self, array, first, last)
    cpdef rows(self, array, first, last)
    cpdef add_rows(self, total, first, last, rows)
    cpdef placed(self, rows, first, last)

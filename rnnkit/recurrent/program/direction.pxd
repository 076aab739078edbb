cdef class DirectionOfLayer:
    cdef public object _variants, at_drawn, at_restarts, at_states, at_tensors, directions, n_states
    cdef public object names, options, paths, restarts, reverse, step, y_is_state, y_wanted

    cpdef variant(self, tuple needs)

from rnnkit.autograd.tensor cimport Fields, wrap

cpdef run_checked_layer(cells, Fields x, state, restart, options)
cdef _initial_state(cells, N)

cimport cython
from rnnkit.autograd.tensor cimport Fields, wrap

@cython.locals(t=Fields)
cpdef run_layer(cells, Fields x, state, restart, options, decision)
cdef _native_layer(cells, list arrays, n_states, options, keep)

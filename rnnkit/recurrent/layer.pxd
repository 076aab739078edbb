cimport cython
from rnnkit.autograd.checks cimport check_tensor
from rnnkit.autograd.tensor cimport Fields, wrap
from rnnkit.recurrent.options cimport Result
from rnnkit.recurrent.held cimport Held, common_kernel, held_by

@cython.locals(held=list)
cpdef run_checked_layer(cells, Fields x, state, restart, options, Held of_first=*)
cdef _initial_state(cells, N)

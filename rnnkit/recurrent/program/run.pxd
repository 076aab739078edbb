cimport cython
from rnnkit.autograd.tensor cimport Fields, wrap
from rnnkit.recurrent.program.held cimport Held, held_by
from rnnkit.recurrent.program.passes cimport Passes

cdef class DirectionOfLayer:
    cdef public object _variants, at_drawn, at_restarts, at_states, at_tensors, directions, n_states
    cdef public object names, options, paths, restarts, reverse, step, y_is_state, y_wanted

    cpdef variant(self, tuple needs)

cpdef Held traced(cell)
@cython.locals(layer=DirectionOfLayer, passes=Passes, tensor=Fields)
cpdef run_direction(
    cell, Held held, Fields x, state, restart, options, reverse, directions, decision, list room=*)

@cython.locals(found=DirectionOfLayer)
cdef DirectionOfLayer _layer(
    Held held, step, options, reverse, restarts, captured, directions)

cimport cython
from rnnkit.recurrent.program.invariants cimport Invariants
from rnnkit.recurrent.program.direction cimport DirectionOfLayer
from rnnkit.recurrent.program.planned cimport Planned
from rnnkit.recurrent.program.steps cimport Steps

cdef class Passes:
    cdef public object cell, variant, x, drawn, needs, dtype, N, prepared
    cdef public object operands, graphs, initial, restart, block, starts, native, between
    cdef public list state_shapes
    cdef public object present, rows, computed, d_x, d_drawn, flowed
    cdef public DirectionOfLayer layer
    cdef public Invariants invariants
    cdef public Planned planned
    cdef public Steps steps

    cpdef _segment(self, k)
    cpdef _like_x(self, value)
    cpdef tuple _given(self, values, dict more)
    cpdef tuple _given_input(self, value)
    cpdef _forward_segment(self, segment, outputs, initial, final)
    cpdef tuple forward(self, y=*)
    cpdef _forget(self)
    @cython.locals(layer=DirectionOfLayer, outputs=list, shown=list)
    cpdef tuple _outputs(self, y=*)
    @cython.locals(layer=DirectionOfLayer, planned=Planned)
    cpdef list backward(self, list d_outputs, needs, retain)
    cpdef _add_rows(self, segment, d_rows)
    cpdef _show_flows(self, seen)
    @cython.locals(outputs=list, drawn=dict)
    cpdef tuple _outputs_of_inputs(self)
    cpdef _room_for_rows(self, value, n_rows)
    @cython.locals(layer=DirectionOfLayer, given=dict)
    cpdef dict _given_gradients(self, list d_outputs)
    cpdef tuple _given_or_zero(self, d, width)
    cpdef tuple _d_y(self, d, width)
    cpdef _add_row_sums(self, sums)
    cpdef _add_to_input(self, value, first, last, d)
    cpdef _add_to_flow(self, state, first, last, d)
    cpdef _by_time(self, first, last, d)
    cpdef _add_to_drawn(self, value, d)

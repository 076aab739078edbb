cdef class Passes:
    cdef public object cell, layer, variant, compiled, back_from, x, drawn, needs, dtype, steps, N, prepared
    cdef public object invariants, operands, graphs, initial, restart, block, starts, native, between
    cdef public object present, rows, computed, d_x, d_drawn, flowed

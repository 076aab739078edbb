cdef class Planned:
    cdef public object compiled, native, operands, forward_given, backward_given, d_inputs, d_graphs
    cdef public object d_rows, d_matrices, d_biases, matrix_shapes, bias_shapes, sums_shapes
    cdef public object d_invariants

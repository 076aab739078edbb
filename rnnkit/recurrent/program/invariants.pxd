cdef class Invariants:
    cdef public object _variant, _names, _arrays, _needs, _dtype, _prologue, _leaves, sums, _d_tensors, _d_computed

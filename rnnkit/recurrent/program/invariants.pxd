cdef class Invariants:
    cdef public object _variant, _names, _arrays, _needs, _dtype, _prologue, _leaves, sums, _d_tensors, _d_computed

    cpdef array(self, source)
    cpdef tuple native(self, values)
    cpdef _computed(self, value)
    cpdef begin_backward(self)
    cpdef add_gradient(self, source, d)
    cpdef list gradients(self, found)

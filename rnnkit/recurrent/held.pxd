cimport cython
cimport rnnkit.autograd.arrays as arrays
from rnnkit.autograd.tensor cimport Fields

cdef class Held:
    cdef public object _cell, _kind, _lasts, _modules, _settings, _tensors, dtype, dtype_name
    cdef public object hidden_size, kernel, kernel_variant, layers, short_name, states, step, tensors
    cdef public object weights

    @cython.locals(attributes=dict, names=list, values=list, i=Py_ssize_t, tensor=Fields)
    cpdef bint is_of(self, cell)

@cython.locals(held=Held)
cpdef Held held_by(cell)
@cython.locals(first=Held, other=Held)
cpdef common_kernel(list held)

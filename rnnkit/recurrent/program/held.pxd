cimport cython
from rnnkit.autograd.tensor cimport Fields

cdef class Held:
    cdef public object _cell, _kind, _lasts, _modules, _tensors, layers, settings, step, tensors

    @cython.locals(attributes=dict, names=list, values=list, i=Py_ssize_t, tensor=Fields)
    cpdef bint is_of(self, cell)

@cython.locals(held=Held)
cpdef held_by(cell)

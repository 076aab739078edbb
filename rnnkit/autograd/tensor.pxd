cimport cython

cdef class Fields:
    cdef public object _data, _grad, _hooks, _output, _requires_grad, grad_fn

cdef type _Plain

@cython.locals(tensor=Fields)
cpdef wrap(object array)

cimport cython
cimport rnnkit.autograd.arrays as arrays
from rnnkit.autograd.tensor cimport Fields

cdef class Collector:
    cdef public object create_graph, fills_grad
    cdef public dict slots

    cpdef add(self, slot, gradient)
    cpdef leaves(self)
    cpdef take(self, slot)
    cpdef move(self, source, slot)

@cython.locals(gradient=Fields)
cpdef own(list holder)
cpdef add_to_grad(leaf, gradient)

cimport cython
from rnnkit.autograd.tensor cimport Fields

cimport rnnkit.autograd.arrays as arrays

cdef class Node:
    cdef public object inputs, n_outputs, number, _hooks, _retained

    cpdef begin(self, inputs, n_outputs)
    cpdef gradients(self, d_outputs, list needs, retain_graph, collector)
    cpdef free(self)
    @cython.locals(output=Fields)
    cpdef made(self, outputs, constant=*)

cdef class ExclusiveNode(Node):
    cdef public object _forks, _turn

    cpdef begin(self, inputs, n_outputs)

cimport cython
cimport rnnkit.autograd.arrays as arrays
from rnnkit.autograd.node cimport ExclusiveNode
from rnnkit.autograd.tensor cimport Fields, wrap

cdef class FunctionNode(ExclusiveNode):
    cdef public object _ctx, _function, _prepared

    cpdef free(self)
    @cython.locals(tensor=Fields)
    cpdef gradients(self, d_outputs, list needs, retain_graph, collector)

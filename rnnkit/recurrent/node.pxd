from rnnkit.autograd.node cimport ExclusiveNode
from rnnkit.autograd.tensor cimport wrap

cdef class LayerNode(ExclusiveNode):
    cdef public object _began

    cpdef begin(self, inputs, n_outputs)

cimport cython
from rnnkit.autograd.grad_mode cimport is_grad_enabled
from rnnkit.autograd.node cimport ExclusiveNode
from rnnkit.autograd.tensor cimport Fields, wrap

cdef class LayerNode(ExclusiveNode):
    cdef public object _began

    cpdef begin(self, inputs, n_outputs)
    cpdef back(self, list d_outputs, needs, retain)
    @cython.locals(t=Fields)
    cpdef gradients(self, d_outputs, list needs, retain_graph, collector)

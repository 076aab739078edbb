from rnnkit.autograd.node cimport Node
from rnnkit.autograd.tensor cimport wrap

cdef class PrimitiveNode(Node):
    cdef public object _out, _params, _primitive

    cpdef gradients(self, d_outputs, list needs, retain_graph, collector)

cimport cython
from rnnkit.autograd.grad_mode cimport is_grad_enabled
from rnnkit.autograd.tensor cimport Fields, wrap
from rnnkit.recurrent.held cimport Held
from rnnkit.recurrent.node cimport LayerNode
from rnnkit.recurrent.options cimport Result

cdef class FusedLayer(LayerNode):
    cdef public object _cells, _layer, _n_states, _options

    cpdef free(self)
    cpdef back(self, list d_outputs, needs, retain)

@cython.locals(inputs=list, of_cell=Held, t=Fields)
cpdef run_layer(cells, Fields x, state, restart, options, decision, list held)
@cython.locals(first=Held)
cdef _native_layer(cells, list held, list arrays, n_states, options, keep)

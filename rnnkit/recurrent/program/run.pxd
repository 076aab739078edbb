cimport cython
from rnnkit.autograd.grad_mode cimport is_grad_enabled
from rnnkit.autograd.tensor cimport Fields, wrap
from rnnkit.recurrent.held cimport Held
from rnnkit.recurrent.node cimport LayerNode
from rnnkit.recurrent.options cimport Result
from rnnkit.recurrent.program.direction cimport DirectionOfLayer
from rnnkit.recurrent.program.passes cimport Passes

cdef class ProgramLayer(LayerNode):
    cdef public object _needs, _passes

    cpdef free(self)
    cpdef back(self, list d_outputs, needs, retain)

cpdef traced(cell, Held held)
@cython.locals(layer=DirectionOfLayer, passes=Passes, tensor=Fields)
cpdef run_direction(
    cell, Held held, Fields x, state, restart, options, reverse, directions, decision, list room=*)

@cython.locals(found=DirectionOfLayer)
cdef DirectionOfLayer _layer(
    Held held, step, options, reverse, restarts, captured, directions)

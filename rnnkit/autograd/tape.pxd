cimport cython
from rnnkit.checks cimport check_bool, check_list
cimport rnnkit.autograd.arrays as arrays
from rnnkit.autograd.tensor cimport Fields, wrap
from rnnkit.autograd.node cimport Node
from rnnkit.autograd.accumulate cimport Collector, own, add_to_grad

@cython.locals(node=Node)
cpdef slot_of(Fields tensor)
@cython.locals(seen=set, stack=list, nodes=list, node=Node, root=Fields, tensor=Fields)
cpdef list history(roots, since=*)
@cython.locals(found=dict, node=Node, needs=list, tensor=Fields)
cdef dict _leading_to(targets, list nodes)
@cython.locals(nodes=list, useful=dict, collector=Collector)
cdef Collector _walk(roots, seeds, targets, dict captured, retain_graph, create_graph)
@cython.locals(useful=dict)
cpdef walk_on(Collector collector, list nodes, targets, retain_graph)
@cython.locals(node=Node, slots=list, arrived=list, needs=list, tensor=Fields)
cdef _visit(list nodes, dict useful, dict captured, Collector collector, retain_graph)
cdef _show(Node node, list slots, list arrived, dict captured, Collector collector)
@cython.locals(slots=dict, node=Node, tensor=Fields)
cdef _distribute(Collector collector, inputs, list needs, gradients)
@cython.locals(captured=dict, found=dict, holder=list, collector=Collector, tensor=Fields, i=Py_ssize_t)
cdef dict _gradients(list roots, list seeds, list wanted, list slots, retain, create_graph)
@cython.locals(tensors=list, tensor=Fields, i=Py_ssize_t)
cdef list _differentiable(name, given)
@cython.locals(given=list, i=Py_ssize_t)
cdef list _seeds(list roots, grad_outputs)
cdef _retains(retain_graph, create_graph)
@cython.locals(holder=list)
cdef _accumulate(Fields leaf, Collector collector, create_graph)
cdef _add_to_grad(Fields tensor, list holder, create_graph)
@cython.locals(given=Fields)
cdef bint _fits(gradient, Fields root)

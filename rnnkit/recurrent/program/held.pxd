cdef class Held:
    cdef public object _cell, _kind, _lasts, _modules, _tensors, layers, settings, step, tensors

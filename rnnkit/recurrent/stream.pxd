cdef class Call:
    cdef public object _batch, _cells, _dtype, _in_use, _mode, _native, _path, _runner, _state

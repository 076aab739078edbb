from libc.string cimport memcmp
cimport numpy

cdef inline bint alike(object a, object b) except -1:
    if type(a) is not numpy.ndarray or type(b) is not numpy.ndarray:
        return a.shape == b.shape and a.dtype == b.dtype
    cdef int axes = numpy.PyArray_NDIM(a)
    if axes != numpy.PyArray_NDIM(b):
        return False
    if memcmp(numpy.PyArray_DIMS(a), numpy.PyArray_DIMS(b), axes * sizeof(numpy.npy_intp)):
        return False
    return numpy.PyArray_DESCR(a) == numpy.PyArray_DESCR(b) or a.dtype == b.dtype

cdef inline bint fits(object a, object shape, object dtype) except -1:
    if type(a) is not numpy.ndarray or type(shape) is not tuple:
        return a.shape == shape and a.dtype == dtype
    cdef int axis, axes = numpy.PyArray_NDIM(a)
    if len(<tuple>shape) != axes:
        return False
    for axis in range(axes):
        if numpy.PyArray_DIM(a, axis) != (<tuple>shape)[axis]:
            return False
    return <void *>numpy.PyArray_DESCR(a) == <void *>dtype or a.dtype == dtype

cdef inline bint is_private(object a) except -1:
    cdef int flags = numpy.NPY_ARRAY_C_CONTIGUOUS | numpy.NPY_ARRAY_OWNDATA | numpy.NPY_ARRAY_WRITEABLE
    if type(a) is not numpy.ndarray:
        return a.flags.num & flags == flags
    return numpy.PyArray_CHKFLAGS(a, flags)

# Arrays as the native side takes them, copied only where they are not so already, and new ones.

cdef enum:
    MOST_AXES = 8


cdef inline bint is_dense(object a) noexcept:
    return numpy.PyArray_CheckExact(a) and numpy.PyArray_ISCARRAY_RO(a)


def dense(arrays):
    """C-contiguous and aligned; None stays None."""
    cdef list found = list(arrays)
    cdef Py_ssize_t i
    for i in range(len(found)):
        a = found[i]
        if a is not None and not is_dense(a):
            found[i] = numpy.PyArray_FROM_OF(a, numpy.NPY_ARRAY_C_CONTIGUOUS | numpy.NPY_ARRAY_ALIGNED)
    return tuple(found)


def rows(numpy.ndarray a not None):
    """Aligned, with a contiguous last axis and whole strides."""
    if is_dense(a):
        return a
    cdef int last = numpy.PyArray_NDIM(a) - 1
    cdef bint good = has_whole_strides(a) and (
        numpy.PyArray_DIM(a, last) == 1 or numpy.PyArray_STRIDE(a, last) == numpy.PyArray_ITEMSIZE(a))
    return a if good and numpy.PyArray_ISALIGNED(a) else numpy.PyArray_NewCopy(a, numpy.NPY_CORDER)


def lined_up(numpy.ndarray a not None):
    """A matrix, or a vector, with one contiguous axis, aligned, and whole strides."""
    cdef int axis
    cdef bint good = numpy.PyArray_ISONESEGMENT(a)
    if not good and has_whole_strides(a):
        for axis in range(numpy.PyArray_NDIM(a)):
            good = good or numpy.PyArray_STRIDE(a, axis) == numpy.PyArray_ITEMSIZE(a)
    return a if good and numpy.PyArray_ISALIGNED(a) else numpy.PyArray_NewCopy(a, numpy.NPY_CORDER)


cdef bint has_whole_strides(numpy.ndarray a) noexcept:
    cdef int axis
    for axis in range(numpy.PyArray_NDIM(a)):
        if numpy.PyArray_STRIDE(a, axis) % numpy.PyArray_ITEMSIZE(a):
            return False
    return True


def new_arrays(shapes, numpy.dtype dtype not None):
    """New arrays of these shapes; None stays None."""
    return tuple([None if shape is None else new_array(shape, dtype) for shape in shapes])


cdef object new_array(tuple shape, numpy.dtype dtype):
    cdef numpy.npy_intp sizes[MOST_AXES]
    cdef int axis, axes = len(shape)
    if axes > MOST_AXES:
        raise ValueError(f"shape: expected at most {MOST_AXES} axes, got {axes}")
    for axis in range(axes):
        sizes[axis] = shape[axis]
    return numpy.PyArray_EMPTY(axes, sizes, dtype.num, 0)

# What a kernel works on: memory lent for a call, and arrays that are checked as they are taken.

cdef enum:
    CACHE_LINE = 64

# Fresh pages are dear: one workspace is kept for the next call unless it is very large. The GIL
# guards these two.
cdef size_t KEEP_AT_MOST = 64 << 20
cdef void *spare = NULL
cdef size_t spare_size = 0


cdef void *borrow_workspace(size_t size, size_t *got) except NULL:
    global spare, spare_size
    cdef void *memory
    if spare != NULL and spare_size >= size:
        memory, got[0] = spare, spare_size
        spare, spare_size = NULL, 0
        return memory
    memory = PyMem_RawMalloc(size)
    if memory == NULL:
        raise MemoryError(f"a workspace of {size} bytes could not be had")
    got[0] = size
    return memory


cdef inline size_t whole_lines(size_t size) noexcept nogil:
    """Bytes, or a place, up to the next whole cache line."""
    return (size + CACHE_LINE - 1) & ~<size_t>(CACHE_LINE - 1)


cdef inline void *aligned(void *memory) noexcept nogil:
    """The first cache line that begins in a block allocated one too large."""
    return <void *>whole_lines(<size_t>memory)


cdef void return_workspace(void *memory, size_t size) noexcept:
    global spare, spare_size
    if size > KEEP_AT_MOST or (spare != NULL and spare_size >= size):
        PyMem_RawFree(memory)
        return
    PyMem_RawFree(spare)
    spare, spare_size = memory, size


cdef inline void *memory_of(object array) noexcept:
    """Of an array that was made here, whose size is known; None: NULL."""
    return NULL if array is None else numpy.PyArray_DATA(array)


cdef enum:
    MOST_BUFFERS = 32


cdef class Buffers:
    """Buffers held for the time of one call, each checked as it is taken."""

    cdef Py_buffer *views     # MOST_BUFFERS; apart, since Python would clear them with the object
    cdef int count
    cdef bytes format
    cdef const char *format_of_lent
    cdef int number           # NumPy's, of the dtype
    cdef idx itemsize

    def __cinit__(self, int dtype):
        self.count = 0
        self.views = <Py_buffer *>PyMem_RawMalloc(MOST_BUFFERS * sizeof(Py_buffer))
        if self.views == NULL:
            raise MemoryError
        self.format = b"f" if dtype == RK_FLOAT32 else b"d"
        self.format_of_lent = self.format
        self.number = numpy.NPY_FLOAT32 if dtype == RK_FLOAT32 else numpy.NPY_FLOAT64
        self.itemsize = 4 if dtype == RK_FLOAT32 else 8

    def __dealloc__(self):
        for i in range(self.count):
            PyBuffer_Release(&self.views[i])
        PyMem_RawFree(self.views)

    cdef Py_buffer *take(self, object array, str name, int ndim, bint writable) except NULL:
        """The array's buffer; ndim -1: any number of axes."""
        cdef Py_buffer *view = self.get(array, name, PyBUF_WRITABLE if writable else 0)
        self.check(view, name, ndim)
        return view

    cdef Py_buffer *get(self, object array, str name, int flags) except NULL:
        if self.count == MOST_BUFFERS:
            raise ValueError(f"{name}: more than {MOST_BUFFERS} arrays")
        cdef Py_buffer *view = &self.views[self.count]
        if not self.lend(array, view, flags) and PyObject_GetBuffer(
                array, view, PyBUF_STRIDES | PyBUF_FORMAT | flags):
            raise ValueError(name)
        self.count += 1
        return view

    cdef bint lend(self, object array, Py_buffer *view, int flags) noexcept:
        """What PyObject_GetBuffer would tell of an array that has nothing unusual, in a tenth of the time."""
        if not numpy.PyArray_CheckExact(array) or numpy.PyArray_TYPE(array) != self.number:
            return False
        if flags and not numpy.PyArray_ISWRITEABLE(array) or not numpy.PyArray_ISBEHAVED_RO(array):
            return False
        if numpy.PyArray_SIZE(array) == 0:  # whose strides may be anything
            return False
        PyBuffer_FillInfo(view, array, numpy.PyArray_DATA(array), numpy.PyArray_NBYTES(array), False, 0)
        view.format = <char *>self.format_of_lent
        view.itemsize = self.itemsize
        view.ndim = numpy.PyArray_NDIM(array)
        view.shape = <Py_ssize_t *>numpy.PyArray_DIMS(array)
        view.strides = <Py_ssize_t *>numpy.PyArray_STRIDES(array)
        return True

    cdef bint is_plain(self, object array, bint writable) noexcept:
        """Whether it is an array that lies as every kernel takes it."""
        return (numpy.PyArray_CheckExact(array) and numpy.PyArray_TYPE(array) == self.number
                and numpy.PyArray_ISCARRAY_RO(array) and self.count < MOST_BUFFERS
                and (not writable or numpy.PyArray_ISWRITEABLE(array)))

    cdef void *hold(self, object array) noexcept:
        """The memory of such an array, which stays for the time of the call."""
        cdef void *memory = numpy.PyArray_DATA(array)
        PyBuffer_FillInfo(&self.views[self.count], array, memory, 0, False, 0)
        self.count += 1
        return memory

    cdef object room(self, int ndim, idx a, idx b=1, idx c=1):
        """A new array of up to three axes."""
        cdef numpy.npy_intp shape[3]
        shape[0], shape[1], shape[2] = a, b, c
        return numpy.PyArray_SimpleNew(ndim, shape, self.number)

    cdef object part(self, object memory, char *at, idx a, idx b, idx c):
        """An array of three axes in the memory of another, from a place on."""
        cdef numpy.npy_intp shape[3]
        shape[0], shape[1], shape[2] = a, b, c
        array = numpy.PyArray_SimpleNewFromData(3, shape, self.number, at)
        numpy.set_array_base(array, memory)
        return array

    cdef int check(self, Py_buffer *view, str name, int ndim) except -1:
        if view.format != self.format_of_lent and (view.format == NULL or strcmp(view.format, self.format)):
            raise TypeError(f"{name}: expected format {self.format!r}, got {view.format!r}")
        if ndim >= 0 and view.ndim != ndim:
            raise ValueError(f"{name}: expected {ndim} axes, got {view.ndim}")
        if <uintptr_t>view.buf % <size_t>self.itemsize:
            raise ValueError(f"{name}: not aligned to its elements")
        return 0

    cdef Py_buffer *take_in(self, object array, str name, int ndim, bint by_rows=False) except NULL:
        """To be read: of a copy where the array is not contiguous and aligned; or, by rows, where its last
        axis is not contiguous or others are not whole elements."""
        cdef Py_buffer *view = self.get(array, name, 0)
        cdef bint is_dense = view.format == self.format_of_lent and numpy.PyArray_IS_C_CONTIGUOUS(array)
        if is_dense or PyBuffer_IsContiguous(view, b"C") and <uintptr_t>view.buf % <size_t>self.itemsize == 0:
            self.check(view, name, ndim)
            return view
        self.give_back_last()
        return self.take(rows(array) if by_rows else dense((array,))[0], name, ndim, False)

    cdef void give_back_last(self) noexcept:
        self.count -= 1
        PyBuffer_Release(&self.views[self.count])

    cdef void *dense_in(self, object array, str name, idx rows, idx cols) except? NULL:
        """As `dense`, to be read: of a copy where the array is not so; None: NULL."""
        if array is None:
            return NULL
        if self.is_plain(array, False) and is_of_size(array, rows, cols):
            return self.hold(array)
        return self.sized(self.take_in(array, name, 2 if rows else 1), name, rows, cols)

    cdef void *dense(self, object array, str name, idx rows, idx cols, bint writable) except? NULL:
        """A C-contiguous (rows, cols) matrix, or a vector of cols where rows is 0; None: NULL."""
        if array is None:
            return NULL
        if self.is_plain(array, writable) and is_of_size(array, rows, cols):
            return self.hold(array)
        return self.sized(self.take(array, name, 2 if rows else 1, writable), name, rows, cols)

    cdef void *sized(self, Py_buffer *view, str name, idx rows, idx cols) except NULL:
        """The memory of such a matrix or vector."""
        cdef int ndim = view.ndim
        cdef idx step = self.itemsize
        for axis in range(ndim - 1, -1, -1):
            size = cols if axis == ndim - 1 else rows
            if view.shape[axis] != size:
                raise ValueError(f"{name}: axis {axis}: expected {size}, got {view.shape[axis]}")
            if size > 1 and view.strides[axis] != step:
                raise ValueError(f"{name}: not contiguous")
            step *= size
        return view.buf

    cdef void *whole(self, object array, str name, idx size, bint writable) except? NULL:
        """A C-contiguous array of that many elements, whatever its axes; None: NULL."""
        if array is None:
            return NULL
        if self.is_plain(array, writable) and numpy.PyArray_SIZE(array) == size and size:
            return self.hold(array)
        cdef Py_buffer *view = self.take(array, name, -1, writable)
        cdef idx count = 1
        for axis in range(view.ndim - 1, -1, -1):
            if view.shape[axis] > 1 and view.strides[axis] != count * self.itemsize:
                raise ValueError(f"{name}: not contiguous")
            count *= view.shape[axis]
        if count != size:
            raise ValueError(f"{name}: expected {size} elements, got {count}")
        return view.buf

    cdef rk_grid grid_of(self, Py_buffer *view, str name, const rk_sequence *s, idx width) except *:
        """That of a (T, N, width) array whose last axis is contiguous."""
        if view.shape[0] != s.T or view.shape[1] != s.N or view.shape[2] != width:
            raise ValueError(
                f"{name}: expected {(s.T, s.N, width)}, got "
                f"{(view.shape[0], view.shape[1], view.shape[2])}"
            )
        if width > 1 and view.strides[2] != self.itemsize:
            raise ValueError(f"{name}: the last axis is not contiguous")
        check_strides(view, name, 2, self.itemsize)
        return rk_grid(view.buf, view.strides[0] // self.itemsize, view.strides[1] // self.itemsize, 0)

    cdef void *flat(self, object array, str name, size_t size, bint writable) except? NULL:
        """A contiguous vector of that size; None: NULL."""
        return self.dense(array, name, 0, <idx>size, writable)


cdef bint is_of_size(array, idx rows, idx cols) noexcept:
    """Whether it is a (rows, cols) matrix, or a vector of cols where rows is 0."""
    cdef int last = numpy.PyArray_NDIM(array) - 1
    if last != (1 if rows else 0) or numpy.PyArray_DIM(array, last) != cols or cols == 0:
        return False
    return rows == 0 or numpy.PyArray_DIM(array, 0) == rows


cdef int check_strides(const Py_buffer *view, str name, int axes, idx itemsize) except -1:
    """That those of the first axes are whole elements; along one of one element nobody takes a step."""
    for axis in range(axes):
        if view.shape[axis] > 1 and view.strides[axis] % itemsize:
            raise ValueError(f"{name}: strides are not whole elements")
    return 0


cdef int take_plain(Py_buffer *view, object array, str name, bytes formats, int ndim,
                    bint writable) except -1:
    """A C-contiguous buffer of elements of one of the formats, which the caller releases."""
    cdef int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT
    if writable:
        flags |= PyBUF_WRITABLE
    if PyObject_GetBuffer(array, view, flags):
        raise ValueError(name)
    if view.ndim == ndim and view.format != NULL and strlen(view.format) == 1 and view.format[0] in formats:
        return 0
    got = f"{view.ndim} axes of {view.format!r}"
    PyBuffer_Release(view)
    raise ValueError(f"{name}: expected {ndim} axes of one of the formats {formats!r}, got {got}")

cimport cython
from rnnkit.autograd.tensor cimport Fields, wrap

@cython.locals(tensor=Fields)
cpdef check_tensor(name, value, dtype, ranks=*, last=*, shape=*)

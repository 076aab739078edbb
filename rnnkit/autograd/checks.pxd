cimport cython
cimport rnnkit.autograd.arrays as arrays
from rnnkit.autograd.tensor cimport Fields, wrap

@cython.locals(tensor=Fields)
cpdef check_tensor(name, value, dtype, ranks=*, last=*, shape=*)

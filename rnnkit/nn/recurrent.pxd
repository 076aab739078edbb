cimport cython
from rnnkit.checks cimport check_bool
from rnnkit.autograd.checks cimport check_tensor
from rnnkit.autograd.tensor cimport Fields
from rnnkit.recurrent.layer cimport run_checked_layer
from rnnkit.recurrent.options cimport Result
from rnnkit.recurrent.held cimport Held, held_by

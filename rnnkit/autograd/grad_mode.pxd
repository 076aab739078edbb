cpdef is_grad_enabled()

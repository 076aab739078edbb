cpdef check_bool(name, value)
cpdef list check_list(name, values, what)

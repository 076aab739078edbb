/* The four functions of a cell that the table of kernels lists, from its plans and tasks. */
#define DEFINE_CELL(cell)                                                                          \
    static size_t R(cell##_forward_workspace)(const rk_sequence *s)                                \
    {                                                                                              \
        R(run) r;                                                                                  \
        R(arena) arena = {NULL, 0};                                                                \
        R(cell##_plan_forward)(&r, s, &arena);                                                     \
        return arena.used;                                                                         \
    }                                                                                              \
    static size_t R(cell##_backward_workspace)(const rk_sequence *s)                               \
    {                                                                                              \
        R(run) r;                                                                                  \
        R(arena) arena = {NULL, 0};                                                                \
        R(cell##_plan_backward)(&r, s, &arena);                                                    \
        return arena.used;                                                                         \
    }                                                                                              \
    static rk_status R(cell##_forward)(const rk_sequence *s)                                       \
    {                                                                                              \
        R(run) r;                                                                                  \
        R(arena) arena = {s->workspace, 0};                                                        \
        R(cell##_plan_forward)(&r, s, &arena);                                                     \
        rk_parallel(r.n_threads, R(cell##_forward_task), &r);                                      \
        return atomic_load(&r.stop_at) ? RK_INTERRUPTED : RK_OK;                                   \
    }                                                                                              \
    static rk_status R(cell##_backward)(const rk_sequence *s)                                      \
    {                                                                                              \
        R(run) r;                                                                                  \
        R(arena) arena = {s->workspace, 0};                                                        \
        R(cell##_plan_backward)(&r, s, &arena);                                                    \
        rk_parallel(r.n_threads, R(cell##_backward_task), &r);                                     \
        return atomic_load(&r.stop_at) ? RK_INTERRUPTED : RK_OK;                                   \
    }

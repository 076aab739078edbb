/* Compile a cell's forward and backward step for dense steps and for any: the functions of those names with a
   constant `dense` as third argument. */
#define DEFINE_STEPS(forward, backward)                                                            \
    static void R(forward##_dense)(R(run) * r, const R(share) * share, idx t, idx n_rows, real *g) \
    {                                                                                              \
        R(forward)(r, share, 1, t, n_rows, g);                                                     \
    }                                                                                              \
    static void R(forward##_any)(R(run) * r, const R(share) * share, idx t, idx n_rows, real *g)   \
    {                                                                                              \
        R(forward)(r, share, 0, t, n_rows, g);                                                     \
    }                                                                                              \
    static void R(backward##_dense)(R(run) * r, const R(share) * share, idx t, idx n_rows)         \
    {                                                                                              \
        R(backward)(r, share, 1, t, n_rows);                                                       \
    }                                                                                              \
    static void R(backward##_any)(R(run) * r, const R(share) * share, idx t, idx n_rows)           \
    {                                                                                              \
        R(backward)(r, share, 0, t, n_rows);                                                       \
    }

/* The loop, with whichever of the two fits a step. */
#define FORWARD_LOOP(r, share, step) R(forward_loop)(r, share, R(step##_dense), R(step##_any))
#define BACKWARD_LOOP(r, share, step) R(backward_loop)(r, share, R(step##_dense), R(step##_any))

/* The functions of a cell that the table of kernels lists, from its plans and tasks. */
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
    static idx R(cell##_steps_together)(const rk_sequence *s)                                      \
    {                                                                                              \
        R(run) r;                                                                                  \
        R(cell##_plan)(&r, s);                                                                     \
        return r.steps_together;                                                                   \
    }                                                                                              \
    static size_t R(cell##_packed_size)(const rk_sequence *s)                                      \
    {                                                                                              \
        rk_sequence packing = *s;                                                                  \
        packing.packed = &packing; /* any: the layout of weights packed beforehand */              \
        R(run) r;                                                                                  \
        R(arena) arena = {NULL, 0};                                                                \
        R(cell##_plan)(&r, &packing);                                                              \
        R(plan_weights)(&r, &arena, 0, 0);                                                         \
        return arena.used;                                                                         \
    }                                                                                              \
    static void R(cell##_pack)(const rk_sequence *s)                                               \
    {                                                                                              \
        R(run) r;                                                                                  \
        R(arena) arena = {s->packed, 0};                                                           \
        R(cell##_plan)(&r, s);                                                                     \
        R(plan_weights)(&r, &arena, 0, 0);                                                         \
        R(share) share = {.tid = 0, .n_threads = 1};                                               \
        R(pack_forward)(&r, &share);                                                               \
    }                                                                                              \
    static rk_status R(cell##_forward)(const rk_sequence *s)                                       \
    {                                                                                              \
        R(run) r;                                                                                  \
        R(arena) arena = {s->workspace, 0};                                                        \
        R(cell##_plan_forward)(&r, s, &arena);                                                     \
        parallel_for_work(r.n_threads, r.work, R(cell##_forward_task), &r);                        \
        return atomic_load(&r.stop_at) ? RK_INTERRUPTED : RK_OK;                                   \
    }                                                                                              \
    static rk_status R(cell##_backward)(const rk_sequence *s)                                      \
    {                                                                                              \
        R(run) r;                                                                                  \
        R(arena) arena = {s->workspace, 0};                                                        \
        R(cell##_plan_backward)(&r, s, &arena);                                                    \
        parallel_for_work(r.n_threads, r.work, R(cell##_backward_task), &r);                       \
        return atomic_load(&r.stop_at) ? RK_INTERRUPTED : RK_OK;                                   \
    }

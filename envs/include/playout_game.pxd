# The game ABI for Cython; the meaning of every field stands in playout_game.h.
from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef extern from "playout_rng.h" nogil:
    ctypedef struct playout_rng:
        uint64_t key
        uint64_t counter
    uint64_t playout_mix(uint64_t z)
    playout_rng playout_rng_stream(uint64_t seed, uint64_t stream)
    uint64_t playout_rng_next(playout_rng *rng)
    uint32_t playout_rng_below(playout_rng *rng, uint32_t bound)
    double playout_rng_double(playout_rng *rng)

cdef extern from "playout_game.h" nogil:
    enum:
        PLAYOUT_GAME_ABI
        PLAYOUT_TERMINAL
        PLAYOUT_CHANCE
        PLAYOUT_MAX_PLAYERS
        PLAYOUT_MAX_LEGAL
        PLAYOUT_MAX_PARAMS
        PLAYOUT_TEXT_SIZE
        PLAYOUT_ZERO_SUM
        PLAYOUT_GENERAL_SUM
        PLAYOUT_HIDDEN
        PLAYOUT_STEP_REWARDS
        PLAYOUT_HISTORY
        PLAYOUT_ALL_FLAGS
        PLAYOUT_INTEGER
        PLAYOUT_REAL
        PLAYOUT_CHOICE
    const char *PLAYOUT_GAME_CAPSULE
    const char *PLAYOUT_GAME_CAPSULE_1

    ctypedef struct playout_param:
        const char *name
        int32_t kind
        double value, low, high
        const char *choices

    ctypedef struct playout_game:
        uint32_t abi
        uint32_t struct_size
        const char name[64]
        int32_t num_players
        int32_t num_actions
        int32_t max_plies
        int32_t obs_shape[3]
        int32_t state_size
        int32_t num_symmetries
        int32_t params[8]
        void *context
        void (*init)(const playout_game *, void *) noexcept nogil
        int32_t (*to_play)(const playout_game *, const void *) noexcept nogil
        int32_t (*legal)(const playout_game *, const void *, int32_t *) noexcept nogil
        void (*apply)(const playout_game *, void *, int32_t) noexcept nogil
        void (*returns)(const playout_game *, const void *, float *) noexcept nogil
        void (*observe)(const playout_game *, const void *, int32_t, float *) noexcept nogil
        uint64_t (*hash)(const playout_game *, const void *) noexcept nogil
        void (*symmetry)(const playout_game *, const void *, int32_t, void *) noexcept nogil
        int32_t (*symmetry_action)(const playout_game *, int32_t, int32_t) noexcept nogil
        int32_t (*write_action)(const playout_game *, const void *, int32_t, char *) noexcept nogil
        int32_t (*read_action)(const playout_game *, const void *, const char *) noexcept nogil
        int32_t (*write_state)(const playout_game *, const void *, char *) noexcept nogil
        int32_t (*read_state)(const playout_game *, void *, const char *) noexcept nogil
        int32_t (*write_board)(const playout_game *, const void *, char *) noexcept nogil
        int32_t (*check)(const playout_game *, const void *) noexcept nogil
        int32_t (*chance)(const playout_game *, const void *, int32_t *, double *) noexcept nogil
        void (*playout)(const playout_game *, const void *, playout_rng *, float *) noexcept nogil
        void (*destroy)(playout_game *) noexcept nogil
        int32_t (*raise_error)(const playout_game *) except -1
        uint32_t flags
        int32_t max_legal
        int32_t side_planes[2]
        int32_t (*plies_left)(const playout_game *, const void *) noexcept nogil
        const playout_param *parameters
        double values[8]
        double value_scale
        int32_t (*is_legal)(const playout_game *, const void *, int32_t) noexcept nogil
        uint64_t (*eval_key)(const playout_game *, const void *) noexcept nogil
        uint64_t (*info_key)(const playout_game *, const void *, int32_t) noexcept nogil
        void (*resample)(const playout_game *, const void *, int32_t, playout_rng *, void *) noexcept nogil
        void (*score)(const playout_game *, const void *, float *) noexcept nogil
        void (*targets)(const playout_game *, const void *, int32_t, float *) noexcept nogil
        int32_t target_planes
        int32_t (*write_view)(const playout_game *, const void *, int32_t, char *) noexcept nogil
        const char **state_faults
        int32_t (*write_goal)(const playout_game *, char *) noexcept nogil
        uint64_t (*symmetry_key)(const playout_game *, const void *, int32_t) noexcept nogil

    size_t PLAYOUT_GAME_FIRST_SIZE
    uint64_t playout_hash_bytes(const void *state, int32_t size)
    void playout_game_begin(playout_game *game, const char *name)
    object playout_game_capsule(const playout_game *game)

cdef extern from "playout_random.h" nogil:
    int32_t playout_playable(const playout_game *game, const void *state, int32_t *actions)
    int32_t playout_resolve_chance(const playout_game *game, void *state, playout_rng *rng)
    int32_t playout_draw(const playout_game *game, const void *state, playout_rng *rng)
    void playout_finish(const playout_game *game, void *state, playout_rng *rng, float *values)

cdef extern from "playout_adopt.h" nogil:
    void playout_adopt(const playout_game *given, playout_game *game)
    uint64_t playout_default_info_key(const playout_game *game, const void *state, int32_t player)
    void playout_default_resample(const playout_game *game, const void *state, int32_t player,
                                  playout_rng *rng, void *out)

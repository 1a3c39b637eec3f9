"""One decoding step of a few rows in compiled code; the arithmetic is _decode.h's.

It works on the arrays that decoder.py's Decoder has prepared and holds references to them. Shapes
are checked when it is made; tokens and places at every step.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc
from team cimport playout_set_team

import numpy as np


cdef extern from "_decode.h":
    int PLAYOUT_MAX_ROWS
    int PLAYOUT_FLOAT, PLAYOUT_BFLOAT16, PLAYOUT_INT8
    ctypedef struct playout_matrix:
        const void *w
        const float *scales
        const float *bias
        int kind
    ctypedef struct playout_layer:
        playout_matrix qkv
        playout_matrix out
        playout_matrix gate_up
        playout_matrix down
        const float *router
        const float *input_gain
        const float *inner_gain
        const float *gains
        int64_t window
        int rotates
        float *cache
    ctypedef struct playout_model:
        int hidden, inner, layers, heads, kv_heads, size, vocab
        int experts, active, normalise
        float eps
        const float *embed
        const float *rotations
        playout_matrix head
        playout_layer *layer
        int cache_rows, cache_length, threads
        float *work
    int64_t playout_work_size(const playout_model *m) noexcept nogil
    void playout_decode_step(
        playout_model *m, const int64_t *ids, const int64_t *places, float *logits, int64_t rows
    ) noexcept nogil

MAX_ROWS = PLAYOUT_MAX_ROWS


def use_team(size_t parallel, size_t number, size_t size):
    """Share products with the threads that these functions of OpenMP's run (processor.py)."""
    playout_set_team(parallel, number, size)


cdef const void *_address(array, shape, dtype, list keep) except NULL:
    """The memory of an array that has the shape and type it should have."""
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        found = f"{array.dtype} {array.shape}"
        raise ValueError(f"expected a contiguous {dtype} array of shape {shape}, not {found}")
    keep.append(array)
    cdef size_t where = array.ctypes.data
    return <const void *>where


cdef class SmallDecoder:
    """A model for steps of at most MAX_ROWS rows."""

    cdef playout_model model
    cdef list keep
    cdef list caches
    cdef int64_t positions

    def __cinit__(self):
        self.keep = []
        self.caches = []

    def __init__(
        self, layers, head, embed, rotations, *, int heads, int kv_heads, double eps,
        int active=0, bint normalise=True,
    ):
        """Take the arrays of a model.

        Args:
            layers: By name, `qkv`, `out`, `gate_up` and `down` of each layer, float32, uint16 (the
                bits of bfloat16) or int8; of each of these float32 `NAME_bias` and, of int8,
                `NAME_scales` [outputs], or None; `input_gain` and `inner_gain` [H] of norms that
                do not lie in the weights, `gains` [heads + kv_heads, D] and `router` [E, H], or
                None; `window` and `rotates`. With a router, `gate_up` and `down` are those of E
                experts.
            head: [V, H], float32 or uint16.
            embed: float32 [V, H].
            rotations: float32 [positions, D / 2, 2], cosine and sine.
            heads: Query heads.
            kv_heads: Key heads.
            eps: Of the norms.
            active: Experts that a token goes to, of a mixture.
            normalise: Whether their shares add up to 1.
        """
        cdef playout_model *m = &self.model
        cdef playout_layer *layer
        m.vocab, m.hidden = embed.shape
        self.positions = rotations.shape[0]
        m.size = 2 * rotations.shape[1]
        m.heads, m.kv_heads, m.layers, m.eps = heads, kv_heads, len(layers), eps
        mixture = layers[0]["router"]
        m.experts = 0 if mixture is None else len(mixture)
        m.inner = layers[0]["down"].shape[2 if m.experts else 1]
        m.active, m.normalise = active, normalise
        if not min(m.experts, 1) <= active <= m.experts:
            raise ValueError(f"tokens cannot go to {active} of {m.experts} experts")
        many = (m.experts,) if m.experts else ()
        if heads < 1 or kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"{kv_heads} key heads do not divide {heads} heads")
        free(m.layer)
        m.layer = <playout_layer *>calloc(m.layers, sizeof(playout_layer))
        if not m.layer:
            raise MemoryError
        m.embed = <const float *>_address(embed, (m.vocab, m.hidden), np.float32, self.keep)
        angles = (self.positions, m.size // 2, 2)
        m.rotations = <const float *>_address(rotations, angles, np.float32, self.keep)
        self._matrix(&m.head, {"head": head}, "head", (m.vocab, m.hidden))
        rows = (heads + 2 * kv_heads) * m.size
        for number, arrays in enumerate(layers):
            layer = m.layer + <int>number
            self._matrix(&layer.qkv, arrays, "qkv", (rows, m.hidden))
            self._matrix(&layer.out, arrays, "out", (m.hidden, heads * m.size))
            self._matrix(&layer.gate_up, arrays, "gate_up", (*many, 2 * m.inner, m.hidden))
            self._matrix(&layer.down, arrays, "down", (*many, m.hidden, m.inner))
            if m.experts:
                router = arrays["router"]
                layer.router = <const float *>_address(
                    router, (m.experts, m.hidden), np.float32, self.keep
                )
            layer.input_gain = self._optional(arrays["input_gain"], (m.hidden,))
            layer.inner_gain = self._optional(arrays["inner_gain"], (m.hidden,))
            layer.gains = self._optional(arrays["gains"], (heads + kv_heads, m.size))
            layer.window, layer.rotates = arrays["window"], arrays["rotates"]

    cdef int _matrix(self, playout_matrix *matrix, arrays, str name, tuple shape) except -1:
        """Take a matrix, and its scales and bias if it has some."""
        kinds = {"float32": PLAYOUT_FLOAT, "uint16": PLAYOUT_BFLOAT16, "int8": PLAYOUT_INT8}
        array, outputs = arrays[name], (shape[len(shape) - 2],)
        if str(array.dtype) not in kinds:
            raise ValueError(f"weights are float32, bits of bfloat16 or int8, not {array.dtype}")
        matrix.kind = kinds[str(array.dtype)]
        matrix.w = _address(array, shape, array.dtype, self.keep)
        matrix.scales = self._optional(arrays.get(f"{name}_scales"), outputs)
        matrix.bias = self._optional(arrays.get(f"{name}_bias"), outputs)
        return 0

    cdef const float *_optional(self, array, shape) except? NULL:
        """The memory of a float32 array, NULL for None."""
        if array is None:
            return NULL
        return <const float *>_address(array, shape, np.float32, self.keep)

    def __dealloc__(self):
        free(self.model.layer)
        free(self.model.work)

    def attach(self, caches):
        """Use these caches, float32 [2, rows, kv heads, length, D], one a layer."""
        cdef playout_model *m = &self.model
        cdef list keep = []
        if len(caches) != m.layers:
            raise ValueError(f"{len(caches)} caches were given for {m.layers} layers")
        shape = caches[0].shape
        if len(shape) != 5 or shape[0] != 2 or shape[2] != m.kv_heads or shape[4] != m.size:
            raise ValueError(f"a cache of shape {shape} does not fit the model")
        for number, cache in enumerate(caches):
            m.layer[<int>number].cache = <float *>_address(cache, shape, np.float32, keep)
        self.caches = keep
        m.cache_rows, m.cache_length = shape[1], shape[3]
        free(m.work)
        m.work = <float *>malloc(playout_work_size(m) * PLAYOUT_MAX_ROWS * sizeof(float))
        if not m.work:
            raise MemoryError

    def step(
        self, const int64_t[::1] ids, const int64_t[::1] places, float[:, ::1] logits, int threads
    ):
        """Append a token a row at its place; logits [B, V] are written, by so many threads."""
        cdef playout_model *m = &self.model
        cdef int rows = <int>ids.shape[0], r
        if not self.caches:
            raise ValueError("attach caches first")
        if rows < 1 or rows > min(PLAYOUT_MAX_ROWS, m.cache_rows) or places.shape[0] != rows:
            raise ValueError(f"{rows} rows and {places.shape[0]} places cannot be decoded here")
        if logits.shape[0] != rows or logits.shape[1] != m.vocab:
            raise ValueError("logits have the wrong shape")
        for r in range(rows):
            if not 0 <= ids[r] < m.vocab:
                raise ValueError(f"token {ids[r]} is outside the vocabulary of {m.vocab}")
            if not 0 <= places[r] < min(<int64_t>m.cache_length, self.positions):
                raise ValueError(f"place {places[r]} is outside the cache of {m.cache_length}")
        m.threads = threads
        with nogil:
            playout_decode_step(m, &ids[0], &places[0], &logits[0, 0], rows)

"""Equality of what environments return, whatever it is nested in."""

import numpy as np


def assert_same(ours, theirs, *, dtypes=True):
    """Equal to the bit and in type, objects and Nones included; `dtypes` compares those, too."""
    assert type(ours) is type(theirs)
    if isinstance(ours, tuple):
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b, dtypes=dtypes)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_same(ours[key], theirs[key], dtypes=dtypes)
    elif isinstance(ours, np.ndarray):
        assert ours.shape == theirs.shape and (ours.dtype == theirs.dtype or not dtypes)
        if ours.dtype == object:
            for a, b in zip(ours, theirs, strict=True):
                assert_same(a, b, dtypes=dtypes)
        else:
            assert np.array_equal(ours, theirs)
    else:
        assert ours == theirs

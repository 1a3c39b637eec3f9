"""The cases of the studies of paradigms and ablations: networks that are trained once each."""

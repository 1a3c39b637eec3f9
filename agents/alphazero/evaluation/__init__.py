"""How strong networks are: while they learn, without a solver, and at the end of a run."""

"""The stages of the language pipeline: their runs, their sizes, their order."""

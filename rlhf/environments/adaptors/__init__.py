"""Environments of other libraries: each kind of name is a module with `make(name, options)`."""

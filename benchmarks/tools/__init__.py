"""What the benchmarks share: measuring, tables, solved positions."""

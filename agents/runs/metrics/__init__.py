"""What a run has measured: a line an update that a resumed run continues, and TensorBoard's view.

Left out: which numbers there are (the trainers say it) and when they are written (loop.py).
"""

from playout.agents.runs.metrics.log import MetricsLog, encode_row, last_measures, read_rows

__all__ = ["MetricsLog", "encode_row", "last_measures", "read_rows"]

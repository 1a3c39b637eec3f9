"""Vector environments: many environments stepped together behind one interface."""

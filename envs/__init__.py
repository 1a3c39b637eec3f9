"""Native games and control tasks behind one C function table."""

"""clipping."""

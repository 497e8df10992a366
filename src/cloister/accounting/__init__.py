"""Events, guarantees and calibration; the mathematics is dp_accounting's."""

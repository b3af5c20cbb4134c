"""What a study costs before it begins: calibration, memory and seconds."""

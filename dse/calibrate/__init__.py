"""What a machine really reaches: `dse probe` measures it into a hardware file."""

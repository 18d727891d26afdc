"""What the user says: validated, immutable words without arrays."""

"""What a person sees: terminal, HTML, tables."""

"""Training without jet labels: mixed samples, resonance hunts, backgrounds learnt in situ, and how they are judged."""

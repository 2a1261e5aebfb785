"""Where a track comes from: the classes of ATLAS's flavour tagging, in its order."""

__all__ = ["ORIGINS"]

ORIGINS = ("Pileup", "Fake", "Primary", "FromB", "FromBC", "FromC", "FromTau", "OtherSecondary")

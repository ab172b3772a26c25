"""FER-2013 with optional FER+ votes."""

"""Commands of an experimenter: `python -m experiments.<name> --help`."""

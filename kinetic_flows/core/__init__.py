"""What every other package here stands on: values, names, options, errors, files."""

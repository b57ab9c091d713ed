"""Results of the page as files to save: their names, and several in one ZIP file."""

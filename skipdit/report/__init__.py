"""Records as tables, plots and one page: read from files, without torch and without measuring anything anew."""

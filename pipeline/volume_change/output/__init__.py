"""What people see of a finished analysis: the result document, files for other programs, pictures, the report."""

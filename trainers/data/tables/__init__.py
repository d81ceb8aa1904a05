"""Tables: rows of numbers in files, their splits, and what their columns are.

The name of a table is a path, a pattern of paths, a folder of files, or `sklearn:wine`, with
options behind it (`table_names`). Files are read in parts (`table_reader`); rows are held in memory
as `float32`, or in a temporary file (`row_store`).
"""

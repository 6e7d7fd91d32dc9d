"""Evidence that is kept: studies, one row a finished run, tables and sentences made of the rows."""

"""Tables, pictures and the one-page report of a run. Reads run folders only."""

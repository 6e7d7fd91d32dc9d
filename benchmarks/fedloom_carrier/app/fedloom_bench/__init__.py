"""fedloom as the bare app is: two short modules for Flower to take along."""

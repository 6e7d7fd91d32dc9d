"""Files of people and of official data sets, read: pictures, sound, tables."""

-- What an open effect undoes: the path of a method and a key, with a space between; '' if nothing.
ALTER TABLE mesh_effects ADD COLUMN undo_of TEXT NOT NULL DEFAULT '';

"""Planning an engine: area model, estimate, search for geometries, report."""

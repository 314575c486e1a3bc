"""The database: tables, migrations, and the questions that the rest of the package asks it."""

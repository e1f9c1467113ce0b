"""The dataset table and the verb that imports a row of it."""

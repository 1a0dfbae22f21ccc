"""SunSpec: model definitions, discovery of a device's map, and points by name ("124.ChaState")."""

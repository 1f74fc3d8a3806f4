"""`relation_classifier`: the relation between two given entities."""

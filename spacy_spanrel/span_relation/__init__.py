"""Joint entity and relation extraction over spans (SpERT, Eberts and Ulges 2020)."""

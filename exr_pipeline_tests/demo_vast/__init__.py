"""`make demo-vast`: the sample show through events, a function and Dagster into an emulated VAST DataBase."""

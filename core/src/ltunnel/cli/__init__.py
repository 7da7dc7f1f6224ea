"""The command line. `main.run` is the program's entry point; what a subcommand needs is imported when it is called."""

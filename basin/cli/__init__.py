"""The shell: parse, call the library, print. One command a file; empty, so that help is quick."""

"""Go programs built from their modules: the toolchain, the modules, what a program is made of.

A folder below ``images/go`` is one Go module, whose ``go.sum`` locks what it is built from;
``images/go/toolchain.json`` locks the compiler. Everything lies in the project's cache: a build
whose sources were fetched once needs no network.
"""

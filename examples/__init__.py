"""Short programs that train with thinwire; README.md says how to run them.

Run them as modules, from the root of the repository: `torchrun --nproc-per-node 2 -m examples.accelerate`.
Where a program is run by its path, its own folder comes first in Python's search path, and there
`import accelerate`, in the program or in Transformers, finds accelerate.py instead of the package.

This file keeps a package of the same name, which some other project may have installed, from being run.
"""

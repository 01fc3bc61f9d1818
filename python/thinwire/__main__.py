"""`python -m thinwire`, the form that torchrun takes: `torchrun ... -m thinwire demo`."""

from thinwire.cli.main import main

raise SystemExit(main())

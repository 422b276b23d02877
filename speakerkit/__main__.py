"""python -m speakerkit VERB: the umbrella command."""

import sys

from speakerkit.cli.umbrella import main

sys.exit(main())

"""Speed, measured against peers in one run. Nothing here is part of the installed package."""

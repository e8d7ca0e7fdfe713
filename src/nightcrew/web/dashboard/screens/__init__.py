"""The screens: each answers the requests for its pages, and for the acts that stand on them."""

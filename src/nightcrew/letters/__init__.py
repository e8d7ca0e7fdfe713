"""What a letter says: an application's templates, held against what they may name, and rendered for one person."""

from importlib.util import find_spec

from nightcrew.errors import MissingExtra

if missing := [name for name in ("jinja2", "css_inline") if find_spec(name) is None]:
    raise MissingExtra(f"mail needs {' and '.join(missing)}, not installed here: pip install 'nightcrew[mail]'")

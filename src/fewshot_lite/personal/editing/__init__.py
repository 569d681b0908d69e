"""Edit the classes and photos of a personal model, without the photos it was made from.

FiLM, folded into the network, stays as it is. The model keeps the features of its photos, to which
the head and its temperature are fitted anew after each change: exactly what adapting the head to
all of the photos gives. (A head that was chosen by `--head auto` is not chosen again.) The
functions return a changed model, which shares the network, and leave the original as it is.

Where gradient steps on the photos adapted network and head, this does not hold: classes of such a
model can be renamed, and no more.
"""

from fewshot_lite.personal.editing.adding import add, add_features
from fewshot_lite.personal.editing.edits import (
    Duplicate,
    Edit,
    NothingNew,
    film_share,
    worth_readapting,
)
from fewshot_lite.personal.editing.removing import remove, rename

__all__ = [
    "Duplicate",
    "Edit",
    "NothingNew",
    "add",
    "add_features",
    "film_share",
    "remove",
    "rename",
    "worth_readapting",
]

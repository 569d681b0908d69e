"""Classes and photos come and go in a personal model, without the photos it was made from.

FiLM, folded in the network, stays as it is. The model keeps the features of its photos, so that
after any change the head is fitted on those there are, and its temperature: exactly what adapting
the head anew on all of the photos gives. (A head that `adapt` was told to choose stays the one
that was chosen.) The functions leave the model as it is and give a changed one, which shares
its network.

Where gradient steps on the photos made the network and the head, there is no such equality: their
classes can be renamed, and no more.
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

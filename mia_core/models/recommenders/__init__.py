"""Recommenders that learn from whole histories and serve ranked lists.

Pages show them: torch is loaded where one is trained or asked, not with this package.
"""

from mia_core.models.recommenders.contract import Recommender, recommend
from mia_core.models.recommenders.item_based import ItemBased
from mia_core.models.recommenders.latent_factor import LatentFactor
from mia_core.models.recommenders.neural import Neural
from mia_core.models.recommenders.popularity import Popularity

RECOMMENDERS: dict[str, type[Recommender]] = {
    "latent_factor": LatentFactor,
    "item_based": ItemBased,
    "neural": Neural,
    "popularity": Popularity,
}

__all__ = ["RECOMMENDERS", "Recommender", "recommend"]
